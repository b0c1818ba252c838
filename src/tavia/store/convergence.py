"""What the worker reads and commits: which load balancers are due, their tree, and the fenced commits.

Commits are set-based: ``changed_generation <= g`` is evaluated when they run, never over ids from the snapshot, so
a change accepted meanwhile stays PENDING until its own generation is applied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, case, delete, func, insert, null, or_, select, update

from tavia.model.resources import Amphora, Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Fault
from tavia.model.statuses import PENDING, AmphoraStatus, OperatingStatus, ProvisioningStatus
from tavia.model.tree import Tree
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.rows import from_row, to_row, utcnow

_lb = schema.load_balancer.c
_amphora = schema.amphora.c

CHILDREN_FIRST: tuple[type[Configured], ...] = (Member, HealthMonitor, Listener, Pool)
"""The order in which rows can be deleted: none is referenced by a later one."""

R = TypeVar("R")


IS_DUE = and_(
    or_(_lb.generation > _lb.attempted_generation, _lb.due_at <= now()),
    or_(_lb.provisioning_status != ProvisioningStatus.DELETED, _lb.due_at.is_not(None)),
    schema.lease.c.until <= now(),
)
"""A generation that no worker attempted yet, or a stored time that has come (a wait, a retry); the lease is free."""


@dataclass(frozen=True, slots=True)
class Due:
    """A load balancer to converge. ``abandoned``: its lease ran out while somebody owned it."""

    id: str
    abandoned: bool


def due(conn: Connection, providers: Collection[str], limit: int) -> list[Due]:
    """Some load balancers of these providers that want convergence and whose lease is free, in random order."""
    lease = schema.lease.c
    rows = conn.execute(
        select(_lb.id, lease.owner)
        .join(schema.lease, lease.loadbalancer_id == _lb.id)
        .where(_lb.provider.in_(providers), IS_DUE)
        .order_by(func.random())
        .limit(limit)
    )
    return [Due(row.id, abandoned=row.owner != "") for row in rows]


def waited(conn: Connection, loadbalancer_id: str) -> float | None:
    """Seconds from acceptance to now, where nothing is PENDING any more; read right after a commit."""
    row = conn.execute(
        select(_lb.provisioning_status, (now() - _lb.pending_since).label("seconds")).where(_lb.id == loadbalancer_id)
    ).one()
    return None if row.provisioning_status in PENDING or row.seconds is None else float(row.seconds)


def read_tree(conn: Connection, loadbalancer_id: str) -> Tree:
    """The load balancer with all its rows, oldest first; amphorae without the ones that are gone for good."""

    def rows(resource: type[R], *conditions: Any) -> tuple[R, ...]:
        table = schema.TABLES[resource]
        statement = select(table).where(table.c.loadbalancer_id == loadbalancer_id, *conditions)
        found = conn.execute(statement.order_by(table.c.created_at, table.c.id)).mappings()
        return tuple(from_row(resource, row) for row in found)

    loadbalancer = conn.execute(select(schema.load_balancer).where(_lb.id == loadbalancer_id)).mappings().one()
    return Tree(
        loadbalancer=from_row(LoadBalancer, loadbalancer),
        listeners=rows(Listener),
        pools=rows(Pool),
        members=rows(Member),
        healthmonitors=rows(HealthMonitor),
        amphorae=rows(Amphora, _amphora.status != AmphoraStatus.DELETED),
    )


def commit_children(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    refused: Mapping[str, Fault],
    applied_forms: Mapping[str, dict[str, Any]],
) -> None:
    """What changed at or before ``generation`` is ACTIVE, what was deleted goes, what HAProxy refused is ERROR.

    ``refused`` maps ids to why; ``applied_forms`` maps ids of listeners and pools to the form that now runs.
    """
    for resource in CHILDREN_FIRST:
        table = schema.TABLES[resource]
        mine = and_(table.c.loadbalancer_id == loadbalancer_id, table.c.changed_generation <= generation)
        conn.execute(delete(table).where(mine, table.c.deleted_generation <= generation))
        values: dict[str, Any] = {"provisioning_status": ProvisioningStatus.ACTIVE, "fault": None}
        if resource is HealthMonitor:
            values["operating_status"] = case(
                (table.c.admin_state_up, OperatingStatus.ONLINE), else_=OperatingStatus.OFFLINE
            )
        pending = table.c.provisioning_status.in_((*PENDING, ProvisioningStatus.ERROR))
        conn.execute(
            update(table)
            .where(mine, pending, table.c.deleted_generation.is_(None), table.c.id.not_in(refused))
            .values(values)
        )
        for row_id, fault in refused.items():
            conn.execute(
                update(table)
                .where(mine, table.c.id == row_id)
                .values(provisioning_status=ProvisioningStatus.ERROR, fault=asdict(fault))
            )
        if resource in (Listener, Pool):
            for row_id, form in applied_forms.items():
                conn.execute(update(table).where(mine, table.c.id == row_id).values(applied_form=form))


def commit_converged(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    fault: Fault | None = None,
    again_in: float | None = None,
    seen_due_at: float | None = None,
) -> None:
    """All of ``generation`` is done. The load balancer is ACTIVE unless more was accepted meanwhile.

    Where half of it could not be reached, ``fault`` says so, and it is looked at again in ``again_in`` seconds.
    ``seen_due_at`` is the ``due_at`` that was read with the amphorae: one set since then is kept.
    """
    is_last = and_(_lb.generation == generation, _lb.deleted_generation.is_(None))
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            observed_generation=generation,
            attempted_generation=generation,
            provisioning_status=case((is_last, ProvisioningStatus.ACTIVE), else_=_lb.provisioning_status),
            fault=asdict(fault) if fault else None,
            due_at=_unless_set_since(seen_due_at, now() + again_in if again_in is not None else null()),
            failing_since=None,
        )
    )


def _unless_set_since(seen_due_at: float | None, due_at: Any) -> Any:
    """A new ``due_at``, but where someone asked for another look after the tree was read."""
    return case((_lb.due_at.is_not_distinct_from(seen_due_at), due_at), else_=_lb.due_at)


def commit_wait(conn: Connection, loadbalancer_id: str, generation: int, seconds: float) -> None:
    """Come back in ``seconds``; the status stays as it is, and so does what earlier attempts failed for."""
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(attempted_generation=generation, due_at=now() + seconds)
    )


def commit_failure(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    fault: Fault,
    *,
    shown: ProvisioningStatus | None,
    retry_in: float,
) -> None:
    """An attempt failed. ``shown`` is what it shows if nothing newer was accepted; retries go on either way.

    ACTIVE says that all of ``generation`` is served though, None that the status stays. An ERROR shown already stays
    until an attempt succeeds or a new change is accepted. A load balancer that is gone stays gone.
    """
    last = and_(_lb.generation == generation, _lb.provisioning_status != ProvisioningStatus.DELETED)
    is_served = shown is ProvisioningStatus.ACTIVE
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            attempted_generation=generation,
            due_at=now() + retry_in,
            failing_since=case((_lb.failing_since.is_(None), now()), else_=_lb.failing_since),
            fault=asdict(fault),
            observed_generation=generation if is_served else _lb.observed_generation,
            provisioning_status=case((last, shown), else_=_lb.provisioning_status)
            if shown
            else _lb.provisioning_status,
        )
    )


def failing_for(conn: Connection, loadbalancer_id: str) -> float:
    """Seconds since the first of the failures in a row, 0 where the last attempt went well."""
    seconds = conn.execute(
        select(now() - _lb.failing_since).where(_lb.id == loadbalancer_id, _lb.failing_since.is_not(None))
    ).scalar_one_or_none()
    return float(seconds or 0.0)


def commit_deleted(conn: Connection, loadbalancer_id: str, seen_due_at: float | None = None) -> None:
    """All that the load balancer had is gone: its rows too, but for its own, which housekeeping purges later.

    ``seen_due_at`` as in :func:`commit_converged`.
    """
    for resource in CHILDREN_FIRST:
        table = schema.TABLES[resource]
        conn.execute(delete(table).where(table.c.loadbalancer_id == loadbalancer_id))
    conn.execute(
        delete(schema.listener_statistics).where(schema.listener_statistics.c.loadbalancer_id == loadbalancer_id)
    )
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            provisioning_status=ProvisioningStatus.DELETED,
            operating_status=OperatingStatus.OFFLINE,
            observed_generation=_lb.generation,
            attempted_generation=_lb.generation,
            due_at=_unless_set_since(seen_due_at, null()),
            failing_since=None,
            fault=None,
            updated_at=utcnow(),
        )
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """What an amphora last said: ``ago`` in seconds."""

    ago: float
    vrrp_state: str | None


def last_heard(conn: Connection, loadbalancer_id: str) -> dict[str, Heard]:
    """The last heartbeats of a load balancer's amphorae, by amphora id; none for one that never sent any."""
    health = schema.amphora_health.c
    rows = conn.execute(
        select(health.amphora_id, (now() - health.last_update).label("ago"), health.vrrp_state)
        .join(schema.amphora, _amphora.id == health.amphora_id)
        .where(_amphora.loadbalancer_id == loadbalancer_id)
    )
    return {row.amphora_id: Heard(row.ago, row.vrrp_state) for row in rows}


def add_amphora(conn: Connection, amphora: Amphora) -> None:
    """Insert an amphora's row: before anything is made for it."""
    conn.execute(insert(schema.amphora).values(to_row(amphora)))


def change_amphora(conn: Connection, amphora_id: str, **values: Any) -> None:
    """Record what became of an amphora."""
    conn.execute(update(schema.amphora).where(_amphora.id == amphora_id).values(updated_at=utcnow(), **values))
