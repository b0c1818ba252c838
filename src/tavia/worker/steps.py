"""The effects: each makes sure of one thing, however often it runs and wherever an earlier run died.

What a step makes is named by its amphora's row and found again by tag, so a repeated step adopts what is there. A
step returns what is to be recorded; the convergence records it in a fenced transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import AgentClient, TlsRefused, Unreachable
from tavia.amphora.noop import NoopAgentClient
from tavia.amphora.protocol import AgentFailed
from tavia.cloud.protocols import Cloud, NotFound, Server, ServerStatus
from tavia.deadline import left, within
from tavia.model.member_ports import as_column, member_ports, planned
from tavia.model.resources import Amphora
from tavia.model.seams import SeamError
from tavia.model.statuses import AmphoraStatus, Role
from tavia.model.tree import Tree
from tavia.pki import Authority
from tavia.render import VRRP_PRIORITY
from tavia.store.clock import utcnow
from tavia.store.database import Database
from tavia.worker.boot_options import BootOptions
from tavia.worker.boots import BootFailed, Boots
from tavia.worker.plan import Facts, Kind, Step, another_takes_the_vip
from tavia.worker.ports import Ports, amphora_of
from tavia.worker.records import Added, Changed, Record


class Steps:
    """All effects of a worker, on one cloud; ``options`` tells the ones in force."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        authority: Authority,
        options: Callable[[], BootOptions],
        agent_of: Callable[[Amphora], AgentClient | NoopAgentClient],
    ) -> None:
        self._cloud = cloud
        self._options_now = options
        self._agent_of = agent_of
        self._boots = Boots(database, cloud, authority, options, agent_of)
        ports = Ports(cloud, options)
        self._effects: Mapping[Kind, Callable[[Tree, Step, Facts], Record]] = {
            Kind.CREATE_AMPHORA: self._create_amphora,
            Kind.SECURE_VIP: ports.secure_vip,
            Kind.MAKE_PORTS: ports.make_ports,
            Kind.BOOT_SERVER: self._boots.boot_server,
            Kind.AWAIT_AGENT: self._boots.await_agent,
            Kind.PLUG_PORT: ports.plug,
            Kind.UNPLUG_PORT: ports.unplug,
            Kind.SET_QOS_POLICY: ports.set_qos_policy,
            Kind.ROTATE_CERTIFICATE: self._boots.rotate_certificate,
            Kind.FENCE_AMPHORA: self._fence_amphora,
            Kind.REMOVE_AMPHORA: self._remove_amphora,
            Kind.RELEASE_VIP: ports.release_vip,
        }

    @property
    def options(self) -> BootOptions:
        """The ones in force."""
        return self._options_now()

    def take(self, step: Step, tree: Tree, facts: Facts) -> Record:
        """Do a step that is no push. Raises SeamError; BootFailed where another try would need another amphora."""
        return self._effects[step.kind](tree, step, facts)

    def intent(self, step: Step, tree: Tree, subnet_ids: frozenset[str]) -> Record:
        """What has to be in the row before the step is taken: which ports it is about to make."""
        if step.kind not in (Kind.PLUG_PORT, Kind.MAKE_PORTS):
            return None
        amphora = amphora_of(tree, step)
        old = member_ports(amphora)
        new = planned(old, [step.subnet_id] if step.subnet_id else sorted(subnet_ids))
        return Changed(amphora, {"member_ports": as_column(new)}) if new != old else None

    def push(self, amphora: Amphora, bundle: Bundle, fence: Fence) -> Record:
        """Give an amphora its bundle. Raises what the agent's client raises (FenceRefused, BundleRefused, ...).

        Where its row no longer says what it runs, it gets the controllers' addresses and its heartbeat key again too.
        One that never took a bundle in the time for its boot is not waited for any longer: BootFailed.
        """
        agent = self._agent_of(amphora)
        try:
            answer = agent.put_bundle(replace(bundle, fence=fence))
        except (Unreachable, TlsRefused, AgentFailed) as failure:
            is_booting = amphora.status is AmphoraStatus.BOOTING
            if is_booting and self._boots.time_since("active_at", amphora) > self.options.agent_patience:
                raise BootFailed(amphora, failure) from failure
            raise
        if amphora.status is AmphoraStatus.ALLOCATED and amphora.applied_hash is None:
            agent.put_config(self._boots.agent_config(amphora))
        return Changed(
            amphora,
            {
                "status": AmphoraStatus.ALLOCATED,
                "applied_generation": bundle.generation,
                "applied_hash": bundle.hash,
                "held_hash": answer.hash[:64],
            },
        )

    def _create_amphora(self, tree: Tree, step: Step, _facts: Facts) -> Record:
        loadbalancer = tree.loadbalancer
        role = Role(step.subject)
        return Added(
            Amphora(
                id=str(uuid.uuid4()),
                loadbalancer_id=loadbalancer.id,
                created_at=utcnow(),
                role=role,
                ha_ip=loadbalancer.vip_address,
                ha_port_id=loadbalancer.vip_port_id,
                vrrp_id=1,
                vrrp_interface="eth1",
                vrrp_priority=VRRP_PRIORITY[role],
                compute_flavor=self.options.of(loadbalancer).flavor,
            )
        )

    def _fence_amphora(self, tree: Tree, step: Step, facts: Facts) -> Record:
        amphora = amphora_of(tree, step)
        is_cut_off = amphora.id in (*facts.silent, *facts.unreachable)
        try:
            with within(left() / 2 if is_cut_off else left()):
                self._stop_servers(amphora)
        except SeamError:
            # Where a host is silent its network may still obey.
            if is_cut_off and another_takes_the_vip(tree, amphora, facts):
                self._take_vip(amphora)
                facts.without_vip.add(amphora.id)
            raise
        self._take_vip(amphora)
        return Changed(amphora, {"fenced": True, "status": AmphoraStatus.PENDING_DELETE})

    def _stop_servers(self, amphora: Amphora) -> None:
        for server in self._servers(amphora):
            if server.status is ServerStatus.BUILDING:  # Nova stops nothing that it still builds; it never served
                self._cloud.compute.delete(server.id)
            else:
                self._cloud.compute.power_off(server.id)

    def _take_vip(self, amphora: Amphora) -> None:
        networking = self._cloud.networking
        ports = {port.id: port for port in networking.ports(self.options.tags(amphora))}
        with suppress(NotFound):
            if amphora.vrrp_port_id and amphora.vrrp_port_id not in ports:  # a tag may be gone
                ports[amphora.vrrp_port_id] = networking.port(amphora.vrrp_port_id)
        for port in ports.values():
            if port.allowed_addresses:
                networking.set_allowed_addresses(port.id, frozenset())

    def _remove_amphora(self, tree: Tree, step: Step, facts: Facts) -> Record:
        amphora = amphora_of(tree, step)
        for server in self._servers(amphora):
            self._cloud.compute.delete(server.id)
        if self._is_being_built(amphora):
            facts.leaving.add(amphora.id)
            return None
        for port in self._cloud.networking.ports(self.options.tags(amphora)):
            self._cloud.networking.delete_port(port.id)
        return Changed(amphora, {"fenced": True, "status": AmphoraStatus.DELETED})

    def _is_being_built(self, amphora: Amphora) -> bool:
        """Whether compute finishes a boot before it deletes the server, and wants the ports for it.

        Nova's host waits as long as vif_plugging_timeout for a port that is gone. A boot that takes longer than one may
        is not waited for.
        """
        is_in_time = 0.0 < self._boots.time_since("boot_started_at", amphora) < self.options.active_patience
        return is_in_time and any(server.status is ServerStatus.BUILDING for server in self._servers(amphora))

    def _servers(self, amphora: Amphora) -> Sequence[Server]:
        """All that are tagged as its own, and the one in its row.

        That is asked for by its id: a list leaves out what is behind a part of the cloud that does not answer (a cell).
        """
        compute = self._cloud.compute
        found = {server.id: server for server in compute.servers(self.options.tags(amphora))}
        if amphora.compute_id and amphora.compute_id not in found and (its := compute.server(amphora.compute_id)):
            found[its.id] = its
        return list(found.values())
