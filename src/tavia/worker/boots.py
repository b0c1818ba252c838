"""The steps of a boot: the server, and its agent's first answer."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from tavia.amphora.agent_config import render_agent_config
from tavia.amphora.client import AgentClient, TlsRefused, Unreachable
from tavia.amphora.heartbeat import derive_key
from tavia.amphora.noop import NoopAgentClient
from tavia.amphora.protocol import AgentFailed
from tavia.cloud.protocols import Cloud, Server, ServerSpec, ServerStatus
from tavia.model.member_ports import member_ports
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.tree import Tree
from tavia.pki import Authority
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.database import Database
from tavia.worker.boot_options import BootOptions
from tavia.worker.plan import Facts, Step
from tavia.worker.ports import amphora_of, server_group_name
from tavia.worker.records import Changed, Moment, Record

AGENT_POLL = 0.02
AGENT_WAIT = 2.0
"""Seconds between two looks whether a booted agent answers, and for how long one step looks."""
QUICK_BOOT = 10.0
"""Seconds after which a boot is a slow one: it is looked at once in a while then, and keeps no thread."""
SERVER_LOOK = 1.0
"""Seconds of each agent_interval in which compute is asked too whether the server still runs: agents are asked more
often, and cost the cloud nothing."""
ADVICE = {
    "agent-connect-refused": "the server runs and nothing listens there: is the agent in the image, what does its "
    "console log say?",
    "agent-timeout": "do the groups of [controller_worker] amp_secgroup_list let TCP 9443 in, does this controller's "
    "leg in lb-mgmt-net work?",
    "agent-no-route": "as this controller sees it nobody has that address: is its leg in lb-mgmt-net up, did the "
    "server boot (its console log), is its port bound?",
    "tls-refused-by-controller": "[haproxy_amphora] server_ca must hold the authority of [certificates] "
    "ca_certificate, and the clocks must agree",
    "tls-refused-by-amphora": "[controller_worker] client_ca must have signed [haproxy_amphora] client_cert, which "
    "must not have expired",
}
"""What to look at when an agent was not reached, by the client's code."""


class BootFailed(SeamError):
    """An amphora will not serve any more: its row is marked, what was made for it goes, a retry is a new row.

    Only where it had a server. What was refused one has its row and its ports for the next try.
    """

    def __init__(self, amphora: Amphora, failure: SeamError) -> None:
        super().__init__(
            failure.seam, failure.code, failure.message, permanent=failure.permanent, detail=failure.detail
        )
        self.amphora = amphora


class Boots:
    """See :mod:`tavia.worker.steps`."""

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

    @property
    def _options(self) -> BootOptions:
        return self._options_now()

    def boot_server(self, tree: Tree, step: Step, _facts: Facts) -> Record:
        """Compute has taken on one server for the amphora."""
        amphora, options = amphora_of(tree, step), self._options.of(tree.loadbalancer)
        validity = timedelta(seconds=options.cert_validity)
        servers = self._cloud.compute.servers(self._options.tags(amphora))
        if servers:
            for extra in servers[1:]:
                self._cloud.compute.delete(extra.id)
            booted = datetime.fromtimestamp(servers[0].created_at, UTC).replace(tzinfo=None)
            found = {"compute_id": servers[0].id, "image_id": servers[0].image_id, "cert_expiration": booted + validity}
            return Changed(amphora, found, "boot_started_at")
        image_id = self._cloud.images.image_id(options.image_tag, options.image_owner_id)
        certificate = self._authority.issue_amphora(amphora.id, validity)
        compute_id = self._cloud.compute.boot(
            ServerSpec(
                name=server_name(amphora.id, self._options.random_name_length),
                image_id=image_id,
                flavor=options.flavor,
                port_ids=self._port_ids(amphora),
                files={
                    "/etc/octavia/amphora-agent.conf": self.agent_config(amphora).encode(),
                    "/etc/octavia/certs/server.pem": certificate.pem,
                    "/etc/octavia/certs/client_ca.pem": self._options.client_ca,
                },
                tags=self._options.tags(amphora),
                availability_zone=options.availability_zone,
                key_name=self._options.key_name,
                server_group_id=self._server_group(tree.loadbalancer),
                volume=self._options.volume,
            )
        )
        booted_as = {
            "compute_id": compute_id,
            "compute_flavor": options.flavor,
            "image_id": image_id,
            "cert_expiration": certificate.expires,
        }
        return Changed(amphora, booted_as, "boot_started_at")

    def rotate_certificate(self, tree: Tree, step: Step, facts: Facts) -> Record:
        """The agent has a certificate that lasts longer, for connections made from now on, and on its disk.

        Where the answer is lost it has it all the same; the next try gives it another.
        """
        amphora = amphora_of(tree, step)
        certificate = self._authority.issue_amphora(amphora.id, timedelta(seconds=self._options.cert_validity))
        facts.rotated.add(amphora.id)
        if amphora.cert_expiration is not None and certificate.expires <= amphora.cert_expiration:
            return None  # the authority itself ends then
        self._agent_of(amphora).put_certificate(certificate.pem)
        return Changed(amphora, {"cert_expiration": certificate.expires})

    def _port_ids(self, amphora: Amphora) -> list[str]:
        """The management port first. Those on further boot networks are known by tag alone."""
        known = [amphora.mgmt_port_id, amphora.vrrp_port_id, *(port.port_id for port in member_ports(amphora))]
        if len(self._options.boot_network_ids) > 1:
            known += [port.id for port in self._cloud.networking.ports(self._options.tags(amphora))]
        return list(dict.fromkeys(port_id for port_id in known if port_id))

    def _server_group(self, loadbalancer: LoadBalancer) -> str | None:
        policy = self._options.anti_affinity
        if policy is None or len(loadbalancer.topology.roles) == 1:
            return None
        return self._cloud.compute.ensure_server_group(server_group_name(loadbalancer.id), policy)

    def agent_config(self, amphora: Amphora) -> str:
        """What the agent is told of itself and of us."""
        return render_agent_config(
            amphora_id=amphora.id,
            controllers=list(self._options.controllers),
            heartbeat_interval=self._options.heartbeat_interval,
            heartbeat_key_hex=derive_key(self._options.heartbeat_key, amphora.id).hex(),
            bind_host=amphora.lb_network_ip or "::",
            bind_port=self._options.agent_port,
        )

    def await_agent(self, tree: Tree, step: Step, facts: Facts) -> Record:
        """The agent answers, or it may take longer still; else raises BootFailed."""
        amphora = amphora_of(tree, step)
        active_for = self.time_since("active_at", amphora)
        recorded: Record = None
        if amphora.active_at is None:
            server = self._booting_server(amphora)
            if server is None:
                facts.not_yet.add(amphora.id)
                return None
            recorded = Changed(amphora, {"cached_zone": server.zone}, "active_at")
        elif active_for % self._options.agent_interval < SERVER_LOOK:
            self._booting_server(amphora)
        try:
            self._agent_answers(amphora, AGENT_WAIT if active_for < QUICK_BOOT else 0.0)
        except (Unreachable, TlsRefused, AgentFailed) as failure:
            if active_for > self._options.agent_patience:
                raise BootFailed(amphora, self._unanswered(failure)) from failure
            facts.not_yet.add(amphora.id)
        else:
            facts.answering.add(amphora.id)
        return recorded

    def _booting_server(self, amphora: Amphora) -> Server | None:
        """The server once it runs, None while it may still come to. Raises BootFailed."""
        server = self._cloud.compute.server(amphora.compute_id or "")
        if failure := _boot_failure(amphora, server):
            raise BootFailed(amphora, failure)
        if server and server.status is ServerStatus.ACTIVE:
            return server
        if amphora.active_at is None and self.time_since("boot_started_at", amphora) > self._options.active_patience:
            raise BootFailed(amphora, self._never_active(amphora, server))
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

    def time_since(self, moment: Moment, amphora: Amphora) -> float:
        """Seconds, 0 where it has not come yet."""
        with self._database.query() as conn:
            statement = select(now() - schema.amphora.c[moment]).where(schema.amphora.c.id == amphora.id)
            return float(conn.execute(statement).scalar_one() or 0.0)

    def _never_active(self, amphora: Amphora, server: Server | None) -> SeamError:
        said = server.fault if server and server.fault else f"it says {server.status if server else 'nothing'}"
        message = (
            f"compute did not bring server {amphora.compute_id} up in {self._options.active_patience:.0f} s "
            f"([controller_worker] amp_active_retries x amp_active_wait_sec): {said}"
        )
        return SeamError(Seam.BOOT, "server-never-active", message)

    def _unanswered(self, failure: SeamError) -> SeamError:
        waited = f"no answer in {self._options.agent_patience:.0f} s"
        advice = f"; {ADVICE[failure.code]}" if failure.code in ADVICE else ""
        return SeamError(failure.seam, failure.code, f"{failure.message} ({waited}){advice}", detail=failure.detail)


def server_name(amphora_id: str, random_length: int) -> str:
    """Of an amphora's server: it tells the amphora, or nothing (a letter first, as host names want it)."""
    if not random_length:
        return f"amphora-{amphora_id}"
    return "a" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(random_length - 1))


def _boot_failure(amphora: Amphora, server: Server | None) -> SeamError | None:
    if server is None:
        return SeamError(Seam.BOOT, "server-gone", f"server {amphora.compute_id} of amphora {amphora.id} is gone")
    if server.status is ServerStatus.OFF:
        return SeamError(Seam.BOOT, "server-off", f"server {server.id} went off while it booted")
    if server.status is ServerStatus.ERROR:
        said = server.fault or "compute says ERROR"
        return SeamError(Seam.BOOT, server.fault_code or "server-error", f"server {server.id}: {said}", permanent=True)
    return None
