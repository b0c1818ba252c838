"""What heartbeats leave behind, and which amphorae are in trouble. The health manager reads and writes here.

Times are seconds since the epoch by the database's clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, case, false, func, not_, or_, select, update

from tavia.model.mark import Mark
from tavia.model.resources import Configured
from tavia.model.seams import Fault
from tavia.model.statuses import AmphoraStatus, OperatingStatus, ProvisioningStatus, Topology
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.upsert import upsert

_amphora = schema.amphora.c
_health = schema.amphora_health.c
_lb = schema.load_balancer.c
_operation = schema.operation.c

AUTOMATIC_FAILOVER = "automatic-failover"
"""The name under which the health manager's replacements stand in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the database knows of an amphora that sent a heartbeat; ``last`` is the last one recorded."""

    status: AmphoraStatus
    loadbalancer_id: str | None
    observed_generation: int
    last: Mark | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubled:
    """An allocated amphora that is silent, whose HAProxy is down, which is cut off from its tenant's network, or that
    had a fault when last looked at.

    ``no_carrier`` names the interfaces that carry nothing, with blanks between them; empty where none is known to.
    ``silent_for`` is seconds since its last heartbeat, or since its boot began where none ever came (``heard`` is
    false then).
    """

    id: str
    loadbalancer_id: str
    compute_id: str | None
    lb_network_ip: str | None
    topology: Topology
    fault: Mapping[str, Any] | None
    heard: bool
    silent_for: float
    haproxy_up: bool
    no_carrier: str
    zone: str | None


@dataclass(frozen=True, slots=True)
class Sibling:
    """An allocated amphora of a load balancer: whether it is heard, its HAProxy serves, and it sees its peer."""

    id: str
    loadbalancer_id: str
    works: bool
    peer_seen: bool | None


_MARK = (_health.start_id, _health.boot_count, _health.seq)


def _mark(row: Any) -> Mark:
    return Mark(row.start_id, (row.boot_count, row.seq))


def last_marks(conn: Connection) -> dict[str, Mark]:
    """Of the last heartbeat recorded of each amphora; who was heard last comes last."""
    rows = conn.execute(select(_health.amphora_id, *_MARK).order_by(_health.last_update))
    return {row.amphora_id: _mark(row) for row in rows}


def addresses(conn: Connection, amphora_ids: Collection[str]) -> dict[str, str]:
    """The management addresses of those of these amphorae that carry traffic or boot."""
    rows = conn.execute(
        select(_amphora.id, _amphora.lb_network_ip).where(
            _amphora.id.in_(amphora_ids),
            _amphora.status.in_((AmphoraStatus.ALLOCATED, AmphoraStatus.BOOTING)),
            _amphora.lb_network_ip.is_not(None),
        )
    )
    return {row.id: row.lb_network_ip for row in rows}


def database_time(conn: Connection) -> float:
    """The database's clock."""
    return float(conn.execute(select(now())).scalar_one())


def known(conn: Connection, amphora_ids: Collection[str]) -> dict[str, Known]:
    """Those of these amphorae that have a row, by id."""
    rows = conn.execute(
        select(_amphora.id, _amphora.status, _amphora.loadbalancer_id, _lb.observed_generation, *_MARK)
        .outerjoin(schema.load_balancer, _lb.id == _amphora.loadbalancer_id)
        .outerjoin(schema.amphora_health, _health.amphora_id == _amphora.id)
        .where(_amphora.id.in_(amphora_ids))
    )
    return {
        row.id: Known(
            status=AmphoraStatus(row.status),
            loadbalancer_id=row.loadbalancer_id,
            observed_generation=row.observed_generation or 0,
            last=_mark(row) if row.seq is not None else None,
        )
        for row in rows
    }


def record(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what amphorae last said, in one statement; another health manager's later word stays.

    A row holds the columns of ``amphora_health``.
    """

    def later_word(new: Any) -> dict[str, Any]:
        is_later = new.last_update >= _health.last_update
        # The column that the condition compares comes last: see upsert.
        others = [c for c in _health if c.name not in ("amphora_id", "last_update")]
        return {c.name: case((is_later, new[c.name]), else_=c) for c in (*others, _health.last_update)}

    upsert(conn, schema.amphora_health, rows, later_word)


def set_operating_statuses(
    conn: Connection, resource: type[Configured], statuses: Mapping[str, OperatingStatus]
) -> None:
    """Write operating statuses by id; a deleted load balancer keeps its own.

    In an order that is the same for every writer, as in :mod:`tavia.store.upsert`.
    """
    table = schema.TABLES[resource]
    for status in sorted(set(statuses.values())):
        ids = sorted(row_id for row_id, its in statuses.items() if its is status)
        conn.execute(
            update(table)
            .where(table.c.id.in_(ids), table.c.provisioning_status != ProvisioningStatus.DELETED)
            .values(operating_status=status)
        )


def takes_writes(conn: Connection) -> None:
    """Write what is there already. Raises where the database takes no writes at all."""
    conn.execute(update(schema.deployment).values(single=schema.deployment.c.single))


def amphora_count(conn: Connection) -> int:
    """How many amphorae carry traffic."""
    allocated = select(func.count()).select_from(schema.amphora).where(_amphora.status == AmphoraStatus.ALLOCATED)
    return int(conn.execute(allocated).scalar_one())


def troubled(conn: Connection, timeout: float) -> list[Troubled]:
    """Amphorae to look at. Not the ones whose replacement, or whose load balancer's deletion, was asked for already."""
    last = func.coalesce(_health.last_update, _amphora.boot_started_at, 0.0)
    silent_for = (now() - last).label("silent_for")
    rows = conn.execute(
        select(
            _amphora.id,
            _amphora.loadbalancer_id,
            _amphora.compute_id,
            _amphora.lb_network_ip,
            _lb.topology,
            _amphora.fault,
            _amphora.cached_zone,
            _health.last_update,
            silent_for,
            _health.haproxy_up,
            _health.no_carrier,
        )
        .join(schema.load_balancer, _lb.id == _amphora.loadbalancer_id)
        .outerjoin(schema.amphora_health, _health.amphora_id == _amphora.id)
        .where(
            _amphora.status == AmphoraStatus.ALLOCATED,
            _amphora.replace_generation.is_(None),
            _lb.deleted_generation.is_(None),
            or_(
                last < now() - timeout,
                _health.haproxy_up.is_(False),
                _health.no_carrier != "",
                _amphora.fault.is_not(None),
            ),
        )
    )
    return [
        Troubled(
            id=row.id,
            loadbalancer_id=row.loadbalancer_id,
            compute_id=row.compute_id,
            lb_network_ip=row.lb_network_ip,
            topology=Topology(row.topology),
            fault=row.fault,
            heard=row.last_update is not None,
            silent_for=row.silent_for,
            haproxy_up=row.haproxy_up is not False,
            no_carrier=row.no_carrier or "",
            zone=row.cached_zone,
        )
        for row in rows
    ]


def siblings(conn: Connection, loadbalancer_ids: Collection[str], timeout: float) -> list[Sibling]:
    """All standing amphorae of these load balancers."""
    rows = conn.execute(
        select(
            _amphora.id,
            _amphora.loadbalancer_id,
            (now() - _health.last_update).label("ago"),
            _health.haproxy_up,
            _health.peer_seen,
        )
        .outerjoin(schema.amphora_health, _health.amphora_id == _amphora.id)
        .where(
            _amphora.loadbalancer_id.in_(loadbalancer_ids),
            _amphora.status == AmphoraStatus.ALLOCATED,
            _amphora.replace_generation.is_(None),
        )
    )
    return [
        Sibling(
            row.id,
            row.loadbalancer_id,
            works=row.ago is not None and row.ago <= timeout and bool(row.haproxy_up),
            peer_seen=row.peer_seen if row.ago is not None and row.ago <= timeout else None,
        )
        for row in rows
    ]


def some_heard(conn: Connection, timeout: float, *, but: Collection[str], most: int = 3) -> list[tuple[str, str, str]]:
    """A few allocated amphorae that are heard, each time others: their ids, management addresses and servers."""
    heard = (
        select(_amphora.id, _amphora.lb_network_ip, _amphora.compute_id)
        .join(schema.amphora_health, _health.amphora_id == _amphora.id)
        .where(
            _amphora.status == AmphoraStatus.ALLOCATED,
            _amphora.lb_network_ip.is_not(None),
            _amphora.compute_id.is_not(None),
            _amphora.id.not_in(but),
            _health.last_update >= now() - timeout,
        )
        .order_by(_amphora.id)
    )
    somewhere = str(uuid.uuid4())
    rows = list(conn.execute(heard.where(_amphora.id >= somewhere).limit(most)))
    rows += conn.execute(heard.where(_amphora.id < somewhere).limit(most - len(rows))) if len(rows) < most else []
    return [(row.id, row.lb_network_ip, row.compute_id) for row in rows]


def automatic_failovers(conn: Connection, loadbalancer_ids: Collection[str], window: float) -> dict[str, int]:
    """How often each of these load balancers failed over by itself in the last ``window`` seconds."""
    rows = conn.execute(
        select(_operation.loadbalancer_id, func.count().label("failovers"))
        .where(
            _operation.loadbalancer_id.in_(loadbalancer_ids),
            _operation.what == AUTOMATIC_FAILOVER,
            _operation.started > now() - window,
        )
        .group_by(_operation.loadbalancer_id)
    )
    return {row.loadbalancer_id: row.failovers for row in rows}


def still_carrying(conn: Connection, amphora_ids: Collection[str]) -> set[str]:
    """Those of these amphorae that have not left yet: their replacement has not taken over."""
    rows = conn.execute(
        select(_amphora.id).where(_amphora.id.in_(amphora_ids), _amphora.status == AmphoraStatus.ALLOCATED)
    )
    return set(rows.scalars())


def set_fault(conn: Connection, amphora_id: str, fault: Fault | None) -> None:
    """Say what is wrong with an amphora, or that nothing is."""
    conn.execute(update(schema.amphora).where(_amphora.id == amphora_id).values(fault=asdict(fault) if fault else None))


def push_again(conn: Connection, amphora_id: str) -> None:
    """Have the worker push an amphora's bundle again, whatever its row says that it runs."""
    conn.execute(update(schema.amphora).where(_amphora.id == amphora_id).values(applied_hash=None))
    its_loadbalancer = select(_amphora.loadbalancer_id).where(_amphora.id == amphora_id).scalar_subquery()
    conn.execute(update(schema.load_balancer).where(_lb.id == its_loadbalancer).values(due_at=now()))


def lagging(conn: Connection, timeout: float) -> dict[str, tuple[str | None, str | None]]:
    """Amphorae that are heard and report another bundle than their row says: id -> (row's hash, reported hash).

    By neither of its hashes: an older controller's push leaves ``held_hash`` as it was.
    """
    reported = _health.bundle_hash
    is_held = or_(reported == _amphora.applied_hash, func.coalesce(reported == _amphora.held_hash, false()))
    rows = conn.execute(
        select(_amphora.id, _amphora.applied_hash, _health.bundle_hash)
        .join(schema.amphora_health, _health.amphora_id == _amphora.id)
        .where(
            _amphora.status == AmphoraStatus.ALLOCATED,
            _amphora.replace_generation.is_(None),
            _amphora.applied_hash.is_not(None),
            _health.last_update >= now() - timeout,
            or_(reported.is_(None), not_(is_held)),
        )
    )
    return {row.id: (row.applied_hash, row.bundle_hash) for row in rows}
