"""Load balancers with amphorae in a real database, and what the amphorae say: for tests of health and housekeeping."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, select, update
from trees import amphora, listener, loadbalancer, member, pool
from world import fresh_database

from tavia.amphora.client import Unreachable
from tavia.amphora.heartbeat import Heartbeat, ListenerReport, ListenerStats, PoolReport
from tavia.amphora.protocol import AgentStatus
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import ServerSpec
from tavia.diagnosis.guard import Limits
from tavia.health.grace import Grace
from tavia.health.repairs import Repairs
from tavia.health.watching import Watch
from tavia.health.witnesses import Witnesses
from tavia.model.statuses import OperatingStatus, ProvisioningStatus, Topology
from tavia.store import intents, liveness, schema
from tavia.store.clock import now
from tavia.store.database import Database
from tavia.store.rows import to_row

TIMEOUT = 60.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fleet:
    """A deployment: database, cloud and agents. ``answering`` agents answer with whether their HAProxy is up."""

    database: Database
    cloud: NoopCloud = field(default_factory=NoopCloud)
    clock: Clock = field(default_factory=Clock)
    answering: dict[str, bool] = field(default_factory=dict)
    refusing: dict[str, Exception] = field(default_factory=dict)
    wakes: list[None] = field(default_factory=list)

    @classmethod
    def at(cls, directory: Path) -> Fleet:
        return cls(fresh_database(directory))

    @property
    def tags(self) -> frozenset[str]:
        return frozenset({f"tavia-deployment={self.database.deployment_id()}"})

    def add(self, topology: Topology = Topology.SINGLE, *, server: bool = True, **given: Any) -> list[str]:
        """A load balancer that serves HTTP by one pool of one member, heard a moment ago; returns its amphorae."""
        lb_id = str(uuid.uuid4())
        ids = [str(uuid.uuid4()) for _ in topology.roles]
        lb = loadbalancer(
            id=lb_id, topology=topology, generation=3, observed_generation=3, attempted_generation=3,
            operating_status=OperatingStatus.ONLINE, provisioning_status=ProvisioningStatus.ACTIVE, vip_address=None,
        )  # fmt: skip
        active: dict[str, Any] = {"loadbalancer_id": lb_id, "provisioning_status": ProvisioningStatus.ACTIVE}
        children = [
            pool(f"pool-{lb_id[:8]}", **active),
            listener(f"web-{lb_id[:8]}", default_pool_id=f"pool-{lb_id[:8]}", **active),
            member(f"member-{lb_id[:8]}", pool_id=f"pool-{lb_id[:8]}", **active),
        ]
        amphorae = [
            amphora(
                i, loadbalancer_id=lb_id, role=role, lb_network_ip="192.0.2.1", boot_started_at=0.0,
                compute_id=self._boot(i) if server else str(uuid.uuid4()), applied_generation=3,
                **({"applied_hash": "h"} | given),
            )
            for i, role in zip(ids, topology.roles, strict=True)
        ]  # fmt: skip

        def rows(conn: Any) -> None:
            intents.create_loadbalancer(conn, lb)
            for row in [*children, *amphorae]:
                conn.execute(insert(schema.TABLES[type(row)]).values(to_row(row)))

        self.database.write(rows)
        for i in ids:
            self.heard(i)
        return ids

    def _boot(self, amphora_id: str) -> str:
        tags = self.tags | {f"tavia-amphora={amphora_id}"}
        return self.cloud.boot(
            ServerSpec(name=amphora_id, image_id=None, flavor=None, port_ids=(), files={}, tags=tags)
        )

    def heard(self, amphora_id: str, ago: float = 0.0, **given: Any) -> None:
        """A heartbeat of it was recorded ``ago`` seconds ago."""

        def record(conn: Any) -> None:
            row = {
                "amphora_id": amphora_id, "last_update": liveness.database_time(conn) - ago, "boot_count": 1,
                "seq": 0, "generation": 3, "bundle_hash": "h", "vrrp_state": None, "peer_seen": None,
                "haproxy_up": True,
            }  # fmt: skip
            health = schema.amphora_health
            conn.execute(health.delete().where(health.c.amphora_id == amphora_id))
            conn.execute(insert(health).values(row | given))

        self.database.write(record)

    def silence(self, *amphora_ids: str, **given: Any) -> None:
        """Heartbeats stopped long ago, and the agent answers nothing."""
        for amphora_id in amphora_ids:
            self.heard(amphora_id, ago=10 * TIMEOUT, **given)
            self.answering.pop(amphora_id, None)

    def row(self, amphora_id: str) -> Any:
        with self.database.read() as conn:
            return conn.execute(select(schema.amphora).where(schema.amphora.c.id == amphora_id)).one()

    def loadbalancer(self, amphora_id: str) -> Any:
        lb = schema.load_balancer
        with self.database.read() as conn:
            return conn.execute(select(lb).where(lb.c.id == self.row(amphora_id).loadbalancer_id)).one()

    def asked_to_converge(self, amphora_id: str) -> bool:
        """Whether its load balancer has a time to be looked at that has come."""
        lb = schema.load_balancer.c
        its = self.row(amphora_id).loadbalancer_id
        with self.database.read() as conn:
            return conn.execute(select(lb.id).where(lb.id == its, lb.due_at <= now())).one_or_none() is not None

    def marked(self) -> list[str]:
        """The amphorae whose replacement was asked for."""
        with self.database.read() as conn:
            marked = schema.amphora.c.replace_generation.is_not(None)
            return list(conn.execute(select(schema.amphora.c.id).where(marked)).scalars())

    def change(self, amphora_id: str, **values: Any) -> None:
        statement = update(schema.amphora).where(schema.amphora.c.id == amphora_id).values(**values)
        self.database.write(lambda conn: conn.execute(statement))

    def journal(self) -> list[tuple[str, str]]:
        """What and code of every event."""
        with self.database.read() as conn:
            rows = conn.execute(select(schema.operation.c.what, schema.operation.c.code))
            return [(row.what, row.code) for row in rows]

    def watch(self, limits: Limits | None = None, grace: Grace | None = None) -> Watch:
        """The staleness loop over this fleet, with no grace unless one is given."""
        return Watch(
            self.database,
            Witnesses(self.cloud, self._ask, self.tags, threads=4),
            Repairs(self.database, self.cloud, lambda: self.wakes.append(None), host="here"),
            grace or Grace(0.0, longest_gap=1e9, clock=self.clock),
            limits=limits or Limits(threads=10, share=0.2),
            timeout=TIMEOUT,
            patience=300.0,
            clock=self.clock,
        )

    def _ask(self, amphora_id: str, address: str) -> AgentStatus:
        if amphora_id in self.refusing:
            raise self.refusing[amphora_id]
        if amphora_id not in self.answering:
            raise Unreachable("agent-timeout", f"nothing at {address}")
        return status(amphora_id, haproxy_up=self.answering[amphora_id])


def status(amphora_id: str, **given: Any) -> AgentStatus:
    """What the agent of an amphora that runs generation 3 answers."""
    defaults: dict[str, Any] = {
        "boot_count": 1, "fence": None, "generation": 3, "hash": "h", "haproxy_version": "2.6.12",
        "keepalived_version": "2.2.7", "haproxy_up": True, "haproxy_restarts": 0, "keepalived_up": False,
        "vrrp_state": None,
    }  # fmt: skip
    return AgentStatus(amphora_id=amphora_id, **(defaults | given))


def beat(amphora_id: str, seq: int = 1, **given: Any) -> Heartbeat:
    """A heartbeat of an amphora that runs generation 3."""
    defaults: dict[str, Any] = {"boot_count": 1, "generation": 3, "bundle_hash": "h", "haproxy_up": True}
    return Heartbeat(amphora_id=amphora_id, seq=seq, **(defaults | given))


def open_listener(**stats: int) -> ListenerReport:
    zero = {"tx": 0, "rx": 0, "conns": 0, "totconns": 0, "ereq": 0}
    return ListenerReport(status="OPEN", stats=ListenerStats(**(zero | stats)))


def up(**members: str) -> PoolReport:
    return PoolReport(status="UP", members=members)


def counted_statements(database: Database) -> AbstractContextManager[list[str]]:
    """Collects the SQL statements that are executed; an executemany is one."""

    @contextmanager
    def counting() -> Any:
        found: list[str] = []

        def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            found.append(statement)

        event.listen(database.engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            event.remove(database.engine, "before_cursor_execute", note)

    return counting()
