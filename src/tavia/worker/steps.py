"""The effects: each makes sure of one thing, however often it runs and wherever an earlier run died.

What a step makes is named by its amphora's row and found again by tag, so a repeated step adopts what is there. A
step returns what is to be recorded; the convergence records it in a fenced transaction.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from tavia.amphora.agent_config import render_agent_config
from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import AgentClient, TlsRefused, Unreachable
from tavia.amphora.heartbeat import derive_key
from tavia.amphora.noop import NoopAgentClient
from tavia.amphora.protocol import AgentFailed
from tavia.cloud.protocols import Cloud, Port, Server, ServerSpec, ServerStatus
from tavia.model.resources import Amphora
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, Role
from tavia.model.tree import Tree
from tavia.pki import Authority
from tavia.render import VRRP_PRIORITY
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.database import Database
from tavia.store.rows import utcnow
from tavia.worker.plan import Facts, Kind, Step
from tavia.worker.records import Added, Changed, Record

AGENT_POLL = 0.02
AGENT_WAIT = 2.0
"""Seconds between two looks whether a booted agent answers, and for how long one step looks."""
QUICK_BOOT = 10.0
"""Seconds after which a boot is a slow one: it is looked at once in a while then, and keeps no thread."""


@dataclass(frozen=True, kw_only=True)
class BootOptions:
    """What configuration says about booting amphorae. ``cert_validity`` and ``boot_timeout`` are seconds."""

    deployment_id: str
    boot_network_id: str | None
    image_tag: str | None
    image_owner_id: str | None
    flavor: str | None
    client_ca: bytes
    controllers: tuple[str, ...]
    heartbeat_interval: float
    heartbeat_key: str
    agent_port: int
    cert_validity: float
    boot_timeout: float


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
        self._database = database
        self._cloud = cloud
        self._authority = authority
        self._options_now = options
        self._agent_of = agent_of
        self._effects: Mapping[Kind, Callable[[Tree, str, Facts], Record]] = {
            Kind.CREATE_AMPHORA: self._create_amphora,
            Kind.MAKE_PORTS: self._make_ports,
            Kind.BOOT_SERVER: self._boot_server,
            Kind.AWAIT_AGENT: self._await_agent,
            Kind.FENCE_AMPHORA: self._fence_amphora,
            Kind.REMOVE_AMPHORA: self._remove_amphora,
            Kind.DELETE_VIP_PORT: self._delete_vip_port,
        }

    def take(self, step: Step, tree: Tree, facts: Facts) -> Record:
        """Do a step that is no push. Raises SeamError."""
        return self._effects[step.kind](tree, step.subject, facts)

    def push(self, amphora: Amphora, bundle: Bundle, fence: Fence) -> Record:
        """Give an amphora its bundle. Raises what the agent's client raises (FenceRefused, BundleRefused, ...).

        Where its row no longer says what it runs, it gets the controllers' addresses and its heartbeat key again too.
        One that never took a bundle in the time for its boot is not waited for any longer: BootFailed.
        """
        agent = self._agent_of(amphora)
        try:
            agent.put_bundle(replace(bundle, fence=fence))
        except (Unreachable, TlsRefused, AgentFailed) as failure:
            if amphora.status is AmphoraStatus.BOOTING and self._booting_for(amphora) > self._options.boot_timeout:
                raise BootFailed(amphora, failure) from failure
            raise
        if amphora.status is AmphoraStatus.ALLOCATED and amphora.applied_hash is None:
            agent.put_config(self._agent_config(amphora))
        return _change(
            amphora,
            status=AmphoraStatus.ALLOCATED,
            applied_generation=bundle.generation,
            applied_hash=bundle.hash,
        )

    @property
    def _options(self) -> BootOptions:
        return self._options_now()

    def _tags(self, amphora: Amphora) -> frozenset[str]:
        return frozenset({f"tavia-deployment={self._options.deployment_id}", f"tavia-amphora={amphora.id}"})

    def _create_amphora(self, tree: Tree, role: str, _facts: Facts) -> Record:
        loadbalancer = tree.loadbalancer
        amphora = Amphora(
            id=str(uuid.uuid4()),
            loadbalancer_id=loadbalancer.id,
            created_at=utcnow(),
            role=Role(role),
            ha_ip=loadbalancer.vip_address,
            ha_port_id=loadbalancer.vip_port_id,
            vrrp_id=1,
            vrrp_interface="eth1",
            vrrp_priority=VRRP_PRIORITY[Role(role)],
            compute_flavor=self._options.flavor,
        )
        return Added(amphora)

    def _make_ports(self, tree: Tree, amphora_id: str, _facts: Facts) -> Record:
        amphora, loadbalancer = _amphora(tree, amphora_id), tree.loadbalancer
        if loadbalancer.vip_network_id is None or loadbalancer.vip_subnet_id is None:
            raise SeamError(Seam.CONTROL, "no-vip-subnet", "the load balancer's VIP has no subnet", permanent=True)
        existing = {port.name: port for port in self._cloud.networking.ports(self._tags(amphora))}
        mgmt = self._port(existing, amphora, "mgmt", self._boot_network_id())
        vrrp = self._port(
            existing,
            amphora,
            "vrrp",
            loadbalancer.vip_network_id,
            subnet_id=loadbalancer.vip_subnet_id,
            allowed=frozenset({loadbalancer.vip_address or ""}),
        )
        return _change(
            amphora,
            mgmt_port_id=mgmt.id,
            mgmt_subnet_id=mgmt.fixed_ips[0].subnet_id,
            lb_network_ip=mgmt.fixed_ips[0].ip_address,
            vrrp_port_id=vrrp.id,
            vrrp_ip=vrrp.fixed_ips[0].ip_address,
            vrrp_mac=vrrp.mac_address,
        )

    def _port(
        self,
        existing: Mapping[str, Port],
        amphora: Amphora,
        purpose: str,
        network_id: str,
        subnet_id: str | None = None,
        allowed: frozenset[str] = frozenset(),
    ) -> Port:
        name = f"octavia-lb-{purpose}-{amphora.id}"
        if name in existing:
            return existing[name]
        subnet_id = subnet_id or self._cloud.networking.network(network_id).subnet_ids[0]
        return self._cloud.networking.create_port(
            name=name,
            network_id=network_id,
            fixed_ips=[(subnet_id, None)],
            tags=self._tags(amphora),
            allowed_addresses=allowed,
        )

    def _boot_network_id(self) -> str:
        if self._options.boot_network_id:
            return self._options.boot_network_id
        named = [network.id for network in self._cloud.networking.networks() if network.name == "lb-mgmt-net"]
        if len(named) == 1:
            return named[0]
        raise SeamError(
            Seam.CONTROL,
            "no-boot-network",
            f"[controller_worker] amp_boot_network_list is empty and {len(named)} networks are named lb-mgmt-net",
            permanent=True,
        )

    def _boot_server(self, tree: Tree, amphora_id: str, _facts: Facts) -> Record:
        amphora = _amphora(tree, amphora_id)
        validity = timedelta(seconds=self._options.cert_validity)
        image_id = self._cloud.images.image_id(self._options.image_tag, self._options.image_owner_id)
        servers = self._cloud.compute.servers(self._tags(amphora))
        if servers:
            for extra in servers[1:]:
                self._cloud.compute.delete(extra.id)
            booted = datetime.fromtimestamp(servers[0].created_at, UTC).replace(tzinfo=None)
            return _change(
                amphora,
                compute_id=servers[0].id,
                boots=True,
                image_id=image_id,
                cert_expiration=booted + validity,
            )
        certificate = self._authority.issue_amphora(amphora.id, validity)
        compute_id = self._cloud.compute.boot(
            ServerSpec(
                name=f"amphora-{amphora.id}",
                image_id=image_id,
                flavor=self._options.flavor,
                port_ids=[port for port in (amphora.mgmt_port_id, amphora.vrrp_port_id) if port],
                files={
                    "/etc/octavia/amphora-agent.conf": self._agent_config(amphora).encode(),
                    "/etc/octavia/certs/server.pem": certificate.pem,
                    "/etc/octavia/certs/client_ca.pem": self._options.client_ca,
                },
                tags=self._tags(amphora),
            )
        )
        return _change(
            amphora,
            compute_id=compute_id,
            boots=True,
            image_id=image_id,
            cert_expiration=certificate.expires,
        )

    def _agent_config(self, amphora: Amphora) -> str:
        return render_agent_config(
            amphora_id=amphora.id,
            controllers=list(self._options.controllers),
            heartbeat_interval=self._options.heartbeat_interval,
            heartbeat_key_hex=derive_key(self._options.heartbeat_key, amphora.id).hex(),
            bind_host=amphora.lb_network_ip or "::",
            bind_port=self._options.agent_port,
        )

    def _await_agent(self, tree: Tree, amphora_id: str, facts: Facts) -> Record:
        amphora = _amphora(tree, amphora_id)
        server = self._cloud.compute.server(amphora.compute_id or "")
        failure = _boot_failure(amphora, server)
        if failure:
            raise BootFailed(amphora, failure)
        booting_for = self._booting_for(amphora)
        message = f"the agent at {amphora.lb_network_ip} did not answer within {self._options.boot_timeout:.0f} s"
        trouble = SeamError(Seam.MGMT_NET, "agent-never-answered", message)
        if server and server.status is ServerStatus.ACTIVE:
            try:
                self._agent_answers(amphora, AGENT_WAIT if booting_for < QUICK_BOOT else 0.0)
            except Unreachable:
                pass
            except (TlsRefused, AgentFailed) as refusal:
                trouble = refusal
            else:
                facts.answering.add(amphora.id)
                return _change(amphora, cached_zone=server.zone)
        if booting_for > self._options.boot_timeout:
            raise BootFailed(amphora, trouble)
        facts.not_yet.add(amphora.id)
        return None

    def _agent_answers(self, amphora: Amphora, patience: float) -> None:
        """Return once it does. Raises what the client raises, Unreachable after ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while True:
            try:
                self._agent_of(amphora).status()
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGENT_POLL)
            else:
                return

    def _booting_for(self, amphora: Amphora) -> float:
        with self._database.read() as conn:
            amphora_row = schema.amphora.c
            statement = select(now() - amphora_row.boot_started_at).where(amphora_row.id == amphora.id)
            return float(conn.execute(statement).scalar_one())

    def _fence_amphora(self, tree: Tree, amphora_id: str, _facts: Facts) -> Record:
        amphora = _amphora(tree, amphora_id)
        for server in self._servers(amphora):
            self._cloud.compute.power_off(server.id)
        for port in self._cloud.networking.ports(self._tags(amphora)):
            self._cloud.networking.set_allowed_addresses(port.id, frozenset())
        return _change(amphora, fenced=True, status=AmphoraStatus.PENDING_DELETE)

    def _remove_amphora(self, tree: Tree, amphora_id: str, _facts: Facts) -> Record:
        amphora = _amphora(tree, amphora_id)
        for server in self._servers(amphora):
            self._cloud.compute.delete(server.id)
        for port in self._cloud.networking.ports(self._tags(amphora)):
            self._cloud.networking.delete_port(port.id)
        return _change(amphora, fenced=True, status=AmphoraStatus.DELETED)

    def _servers(self, amphora: Amphora) -> list[Server]:
        return self._cloud.compute.servers(self._tags(amphora))

    def _delete_vip_port(self, _tree: Tree, port_id: str, facts: Facts) -> Record:
        self._cloud.networking.delete_port(port_id)
        facts.vip_port_deleted = True
        return None


class BootFailed(SeamError):
    """An amphora's server will not serve any more: its row is marked, a retry is a new row."""

    def __init__(self, amphora: Amphora, failure: SeamError) -> None:
        super().__init__(failure.seam, failure.code, failure.message, permanent=failure.permanent)
        self.amphora = amphora


def _boot_failure(amphora: Amphora, server: Server | None) -> SeamError | None:
    if server is None:
        return SeamError(Seam.BOOT, "server-gone", f"server {amphora.compute_id} of amphora {amphora.id} is gone")
    if server.status is ServerStatus.OFF:
        return SeamError(Seam.BOOT, "server-off", f"server {server.id} went off while it booted")
    if server.status is ServerStatus.ERROR:
        return SeamError(Seam.BOOT, "server-error", f"server {server.id}: {server.fault or 'compute says ERROR'}")
    return None


def _amphora(tree: Tree, amphora_id: str) -> Amphora:
    return next(a for a in tree.amphorae if a.id == amphora_id)


def _change(amphora: Amphora, *, boots: bool = False, **values: Any) -> Record:
    return Changed(amphora, values, boots)
