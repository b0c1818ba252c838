"""A whole deployment in memory but for its database, which is real: a cloud, agents that keep the fence, workers.

Every effect and every transaction of a worker passes one counter, so a test can kill the worker at each of them in
turn. The real cloud and the real agents have tests of their own, and tests/chaos kills real workers.
"""

from __future__ import annotations

import copy
import shutil
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from fake_cloud import FakeCompute, FakeImages, FakeNetworking, Switch
from mariadb import MariaDb
from sqlalchemy import Connection, insert, select, update

from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import AgentClient, Unreachable
from tavia.amphora.protocol import AgentFailed, Applied, BundleRefused, FenceRefused
from tavia.bus.events import Event
from tavia.cloud.protocols import Cloud, PortSpec, ServerSpec, ServerStatus
from tavia.model.resources import Amphora, Listener, LoadBalancer, Member, Pool
from tavia.model.statuses import Topology
from tavia.model.tree import Tree
from tavia.pki import Authority
from tavia.render.settings import RenderSettings
from tavia.store import due, intents, leases, migrate, schema, trees
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.store.engine import default_options
from tavia.store.leases import Lease
from tavia.worker.boot_options import BootOptions
from tavia.worker.convergence import Controller
from tavia.worker.lease_keeper import LeaseKeeper
from tavia.worker.rendering import VipNetworks
from tavia.worker.rounds import converge
from tavia.worker.steps import Steps

T = TypeVar("T")


_of_this_process = TemporaryDirectory(prefix="tavia-test-")


@cache
def _empty_database() -> Path:
    path = Path(_of_this_process.name) / "empty.sqlite"
    migrate.upgrade(f"sqlite:///{path}")
    return path


mariadb: MariaDb | None = None
"""The server that ``pytest --database mariadb`` has started."""


def fresh_database(directory: Path, server: MariaDb | None = None) -> Database:
    """A migrated database of the test's own: on ``server``, or on what the run is for, mostly SQLite."""
    options = default_options(sqlite_synchronous=False)
    server = server or mariadb
    if server:
        return Database.connect(server.migrated_database(), options)
    path = directory / f"{uuid.uuid4().hex}.sqlite"
    shutil.copy(_empty_database(), path)
    return Database.connect(f"sqlite:///{path}", options)


class OneAfterAnother(Executor):
    """Steps in a fixed order, so that a kill at the n-th effect is the same effect each time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class KillableDatabase(Database):
    """A worker's database: its transactions are counted."""

    def __init__(self, database: Database, switch: Switch) -> None:
        super().__init__(**vars(database))
        self._switch = switch

    def write(self, work: Callable[[Connection], T], *, in_snapshot: bool = False) -> T:
        write = super().write
        return self._switch.through("transaction", lambda: write(work, in_snapshot=in_snapshot))


@dataclass
class FakeAgent:
    """An agent that keeps the fence and refuses configuration that contains a forbidden word."""

    world: World
    amphora: Amphora

    def status(self) -> None:
        self._reach()

    def put_bundle(self, bundle: Bundle) -> Applied:
        self.world.switch.through("put-bundle", lambda: self._put(bundle))
        return Applied(action="none", hash="its own" if self.world.has_older_agents else bundle.hash)

    def put_certificate(self, pem: bytes) -> None:
        self._reach()
        self.world.certificates.append((self.amphora.id, pem))

    def put_config(self, text: str) -> None:
        self._reach()
        self.world.agent_configs.append((self.amphora.id, text))

    def _reach(self) -> None:
        tag = f"tavia-amphora={self.amphora.id}"
        is_on = any(s.status is ServerStatus.ACTIVE and tag in s.tags for s in self.world.compute.found.values())
        if not is_on or self.world.cut_off & {self.amphora.id, "*"}:
            raise Unreachable("agent-connect-refused", f"no agent at {self.amphora.lb_network_ip}")

    def _macs(self) -> set[str]:
        """Of what is plugged into the server."""
        networking, compute = self.world.networking, self.world.compute
        servers = compute.servers(frozenset({f"tavia-amphora={self.amphora.id}"}))
        return {networking.port(port).mac_address for server in servers for port in compute.port_ids[server.id]}

    def _put(self, bundle: Bundle) -> None:
        self._reach()
        if self.amphora.id in self.world.always_later:
            raise FenceRefused(replace(bundle.fence, epoch=bundle.fence.epoch + 1, owner="nobody"))
        held = self.world.bundles.get(self.amphora.id)
        if held and held.fence.refuses(bundle.fence):
            raise FenceRefused(held.fence)
        if lost := {interface.mac for interface in bundle.interfaces} - self._macs():
            raise AgentFailed("interface-missing", f"no interface has the MAC address {lost}")
        file = self.world.forbidden_in
        for number, line in enumerate(bundle.files.get(file, "").splitlines(), start=1):
            if self.world.forbidden and self.world.forbidden in line:
                named = number if self.world.names_lines else None
                raise BundleRefused(file, "[ALERT] no, no", named)
        self.world.bundles[self.amphora.id] = bundle
        self.world.pushes.append((self.amphora.id, bundle.generation))


class World:
    """See the module's text. ``forbidden`` is a word that HAProxy refuses here, or whose file
    ``forbidden_in`` is.
    """

    def __init__(self, directory: Path, authority: Authority, topology: Topology = Topology.SINGLE) -> None:
        self.switch = Switch()
        self.database = fresh_database(directory)
        self.compute = FakeCompute(self.switch)
        self.networking = FakeNetworking(self.switch)
        self.bundles: dict[str, Bundle] = {}
        self.pushes: list[tuple[str, int]] = []
        self.agent_configs: list[tuple[str, str]] = []
        self.cut_off: set[str] = set()
        self.always_later: set[str] = set()
        self.certificates: list[tuple[str, bytes]] = []
        self.cert_validity = 30 * 24 * 3600.0
        self.forbidden, self.forbidden_in = "", "haproxy.cfg"
        self.has_older_agents = False
        self.names_lines = True
        self.authority = authority
        self.stopping = threading.Event()
        self.announced: list[tuple[Event, LoadBalancer]] = []
        self.topology = topology
        self.host = "test"
        self.build_rate_limit: int | None = None
        self.random_name_length = 0

    def remember(self) -> Callable[[], None]:
        """What brings all back to how it is now: rows, cloud, agents, the switch. A worker must not be at work."""
        parts = (self.switch, self.compute, self.networking, self)
        kept = ("bundles", "pushes", "agent_configs", "announced", "cut_off", "always_later", "certificates")

        def state() -> list[dict[str, Any]]:
            return [{k: v for k, v in vars(part).items() if part is not self or k in kept} for part in parts]

        def copied(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return copy.deepcopy(states, {id(self.switch): self.switch})

        with self.database.read() as conn:
            tables = schema.metadata.sorted_tables
            stored = {table: [column for column in table.columns if column.computed is None] for table in tables}
            rows = {t: [dict(row) for row in conn.execute(select(*stored[t])).mappings()] for t in tables}
        remembered = copied(state())

        def put_back(conn: Connection) -> None:
            for table in reversed(tables):
                conn.execute(table.delete())
            for table in tables:
                if rows[table]:
                    conn.execute(insert(table), rows[table])

        def restore() -> None:
            self.database.write(put_back)
            for part, then in zip(parts, copied(remembered), strict=True):
                for name in () if part is self else list(vars(part)):
                    delattr(part, name)
                vars(part).update(then)

        return restore

    # what a tenant does

    def create(self, member_subnet_id: str | None = None, **values: Any) -> LoadBalancer:
        """A load balancer with its VIP's port, a listener and a pool with one member, in one transaction."""
        loadbalancer_id = str(uuid.uuid4())
        deployment = self.database.deployment_id()
        vip = self.networking.create_port(
            PortSpec(
                name=f"octavia-lb-{loadbalancer_id}",
                network_id="vip-net",
                fixed_ips=[("vip-subnet", None)],
                tags=frozenset({f"tavia-deployment={deployment}", f"tavia-loadbalancer={loadbalancer_id}"}),
            )
        )
        loadbalancer = LoadBalancer(
            id=loadbalancer_id,
            project_id="p",
            created_at=utcnow(),
            vip_address=vip.fixed_ips[0].ip_address,
            vip_port_id=vip.id,
            vip_subnet_id="vip-subnet",
            vip_network_id="vip-net",
            topology=self.topology,
            **values,
        )
        pool = self.pool(loadbalancer)
        children = [pool, self.member(pool, 1, member_subnet_id), self.listener(loadbalancer, 80, pool)]

        def accept(conn: Connection) -> None:
            intents.create_loadbalancer(conn, loadbalancer)
            for child in children:
                intents.add(conn, child, 1)

        self.database.write(accept)
        return loadbalancer

    def pool(self, loadbalancer: LoadBalancer) -> Pool:
        return Pool(
            id=str(uuid.uuid4()),
            project_id="p",
            created_at=utcnow(),
            loadbalancer_id=loadbalancer.id,
            protocol="HTTP",
            lb_algorithm="ROUND_ROBIN",
        )

    def listener(self, loadbalancer: LoadBalancer, port: int, pool: Pool | None) -> Listener:
        return Listener(
            id=str(uuid.uuid4()),
            project_id="p",
            created_at=utcnow(),
            loadbalancer_id=loadbalancer.id,
            protocol="HTTP",
            protocol_port=port,
            default_pool_id=pool.id if pool else None,
        )

    def member(self, pool: Pool, number: int, subnet_id: str | None = None) -> Member:
        return Member(
            id=str(uuid.uuid4()),
            project_id="p",
            created_at=utcnow(),
            loadbalancer_id=pool.loadbalancer_id,
            pool_id=pool.id,
            address=f"198.19.0.{200 + number}",
            protocol_port=8080,
            subnet_id=subnet_id,
        )

    def change(self, loadbalancer: LoadBalancer, accept: Callable[[Connection, int], Any]) -> int:
        """One accepted request; returns its generation."""

        def transaction(conn: Connection) -> int:
            generation = intents.begin_change(conn, loadbalancer.id)
            accept(conn, generation)
            return generation

        return self.database.write(transaction)

    def failover(self, loadbalancer: LoadBalancer) -> None:
        self.change(
            loadbalancer,
            lambda conn, g: intents.replace_amphorae(
                conn, loadbalancer.id, g, intents.standing_amphorae(conn, loadbalancer.id)
            ),
        )

    def delete(self, loadbalancer: LoadBalancer) -> None:
        def accept(conn: Connection) -> None:
            generation = intents.begin_delete(conn, loadbalancer.id)
            intents.mark_children_deleted(conn, loadbalancer.id, generation)

        self.database.write(accept)

    # what a worker does

    def controller(self) -> Controller:
        database = KillableDatabase(self.database, self.switch)
        cloud = Cloud(self.compute, self.networking, FakeImages())
        options = BootOptions(
            deployment_id=self.database.deployment_id(),
            client_ca=b"",
            controllers=("198.18.0.2:5555",),
            heartbeat_interval=1.0,
            heartbeat_key="key",
            agent_port=9443,
            cert_validity=self.cert_validity,
            active_patience=300.0,
            agent_patience=600.0,
            agent_interval=5.0,
            build_rate_limit=self.build_rate_limit,
            random_name_length=self.random_name_length,
            anti_affinity="anti-affinity",
        )
        steps = Steps(database, cloud, self.authority, lambda: options, lambda a: cast(AgentClient, FakeAgent(self, a)))
        return Controller(
            database=database,
            vip_networks=VipNetworks(self.networking),
            steps=steps,
            keeper=LeaseKeeper(self.database, 30.0, 30.0),
            executor=OneAfterAnother(),
            settings=RenderSettings(),
            host=self.host,
            heartbeat_timeout=60.0,
            cert_expiry_buffer=14 * 24 * 3600.0,
            coalesce_interval=0.0,
            retry_pending_seconds=300.0,
            retry_interval_max=60.0,
            stopping=self.stopping,
            announce=lambda event, loadbalancer: self.announced.append((event, loadbalancer)),
        )

    def converge(self, loadbalancer: LoadBalancer, owner: str = "worker", passes: int = 6) -> None:
        """Converge until the load balancer is not due any more; stored times come at once."""
        controller = self.controller()
        try:
            for _ in range(passes):
                free = next((lease for lease in self.due() if lease.loadbalancer_id == loadbalancer.id), None)
                if free is None:
                    return
                converge(controller, free, owner)
        finally:
            controller.keeper.stop()

    def take(self, loadbalancer_id: str, owner: str, ttl: float = 30.0) -> Lease | None:
        """Take a lease as it stands; None where someone holds it."""
        return take(self.database, loadbalancer_id, owner, ttl)

    def due(self) -> list[Lease]:
        with self.database.read() as conn:
            return [each.lease for each in due.due(conn, ["amphora"], 10)]

    def refuse_boots(self, refused: Callable[[int], bool], error: Exception) -> None:
        """Let compute refuse servers, by how many were asked for before."""
        boot, asked = self.compute.boot, []

        def boot_or_refuse(spec: ServerSpec) -> str:
            asked.append(spec)
            if refused(len(asked) - 1):
                raise error
            return boot(spec)

        self.compute.boot = boot_or_refuse  # type: ignore[method-assign]

    def fault(self, loadbalancer: LoadBalancer) -> dict[str, Any]:
        """What it shows; it must show one."""
        found = self.tree(loadbalancer).loadbalancer.fault
        assert found
        return found

    def look_again(self, loadbalancer: LoadBalancer) -> None:
        """Let a stored time come: a retry, a wait."""
        self.sql(update(schema.load_balancer).where(schema.load_balancer.c.id == loadbalancer.id).values(due_at=0.0))

    def hear(self, amphora: Amphora, vrrp_state: str) -> None:
        """Its heartbeat comes just now, as a health manager records it."""
        said = {"boot_count": 1, "seq": 1, "generation": amphora.applied_generation, "haproxy_up": True}
        row = {"amphora_id": amphora.id, "last_update": now(), "vrrp_state": vrrp_state, **said}
        self.sql(insert(schema.amphora_health).values(row))

    def expire_leases(self) -> None:
        """A dead worker's leases run out."""
        self.sql(update(schema.lease).values(until=0.0))

    def sql(self, statement: Any) -> None:
        self.database.write(lambda conn: conn.execute(statement))

    def tree(self, loadbalancer: LoadBalancer) -> Tree:
        with self.database.read() as conn:
            return trees.read_tree(conn, loadbalancer.id)


def take(database: Database, loadbalancer_id: str, owner: str, ttl: float = 30.0) -> Lease | None:
    """Take a lease as it stands; None where someone holds it."""
    return database.write(lambda conn: leases.take(conn, leases.seen(conn, loadbalancer_id), owner, ttl))


def later(held: Fence, epochs: int) -> Fence:
    """A fence that an agent holds from a future which the database has forgotten."""
    return Fence(held.epoch + epochs, 1, "a worker before the restore")
