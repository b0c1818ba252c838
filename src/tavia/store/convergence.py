"""What the worker reads and commits: which load balancers are due, their tree, and the fenced commits.

Commits are set-based: ``changed_generation <= g`` is evaluated when they run, never over ids from the snapshot, so
a change accepted meanwhile stays PENDING until its own generation is applied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    ColumnElement,
    Connection,
    RowMapping,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    update,
)

from tavia.model.resources import Amphora, Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Fault
from tavia.model.statuses import PENDING, AmphoraStatus, OperatingStatus, ProvisioningStatus
from tavia.model.tree import Tree
from tavia.store import schema, turns
from tavia.store.clock import now
from tavia.store.leases import Lease
from tavia.store.rows import from_row, to_row, utcnow

_lb = schema.load_balancer.c
_amphora = schema.amphora.c

R = TypeVar("R")


IS_DUE = and_(
    or_(_lb.unattempted == true(), _lb.due_at <= now()),
    or_(_lb.provisioning_status != ProvisioningStatus.DELETED, _lb.due_at.is_not(None)),
    schema.lease.c.until <= now(),
)
"""A generation that no worker attempted yet, or a stored time that has come (a wait, a retry); the lease is free."""


LONGEST_COUNTED = 60.0
_waited = func.coalesce(
    case((_lb.unattempted == true(), now() - _lb.pending_since), else_=now() - _lb.due_at), LONGEST_COUNTED
)
_weight = case((_waited < LONGEST_COUNTED, _waited), else_=LONGEST_COUNTED)
"""Seconds for which one has been due. One that is changed without end is pending without end: more than a minute of it
counts no more than a minute of another's."""


def due(conn: Connection, providers: Collection[str], limit: int) -> list[Lease]:
    """The free leases of some load balancers of these providers that want convergence, in random order.

    By chance, so that workers who look at the same moment seldom want the same; but the longer one has waited, the
    sooner it comes, so that none is passed over again and again. One that somebody owns was not given back: it ran out.
    """
    lease = schema.lease.c
    rows = conn.execute(
        select(_lb.id, lease.owner, lease.epoch)
        .join(schema.lease, lease.loadbalancer_id == _lb.id)
        .where(_lb.provider.in_(providers), IS_DUE)
        .order_by((_weight * func.abs(func.random())).desc())
        .limit(limit)
    )
    return [Lease(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Heard:
    """What an amphora last said: ``ago`` in seconds."""

    ago: float
    vrrp_state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A load balancer at one moment. ``heard`` holds the last heartbeat of each amphora that ever sent one, by its id.

    ``pending_for`` is seconds since the acceptance of the first change that is (or was last) pending. ``epoch`` and
    ``written`` are its lease's: the times it was taken, and the mark of its holder's last write.
    """

    tree: Tree
    heard: Mapping[str, Heard]
    pending_for: float | None
    epoch: int | None
    written: str | None

    def is_behind(self, lease: Lease, written: str | None) -> bool:
        """Whether this was read from a node of a cluster that has not seen the lease taken, or its holder's last write.

        ``written`` is that write's mark, None before the first one.
        """
        if self.epoch is None or self.epoch < lease.epoch:
            return True
        return self.epoch == lease.epoch and written is not None and self.written != written


def read_tree(conn: Connection, loadbalancer_id: str) -> Tree:
    """The load balancer with all its rows, oldest first; amphorae without the ones that are gone for good."""
    return observe(conn, loadbalancer_id).tree


def observe(conn: Connection, loadbalancer_id: str) -> Observed:
    """The tree as :func:`read_tree`, and how its amphorae and tenants do."""
    found = _loadbalancer_amphorae_listeners(conn, loadbalancer_id)
    below = _pools_and_monitors(conn, loadbalancer_id)
    member = schema.member.c
    members = conn.execute(
        select(schema.member).where(member.loadbalancer_id == loadbalancer_id).order_by(member.created_at, member.id)
    ).mappings()
    tree = Tree(
        loadbalancer=from_row(LoadBalancer, found[0]),
        listeners=_of(Listener, found),
        pools=_of(Pool, below),
        members=tuple(from_row(Member, row) for row in members),
        healthmonitors=_of(HealthMonitor, below),
        amphorae=_of(Amphora, found),
    )
    heard = {
        row[_amphora.id]: Heard(row["ago"], row[schema.amphora_health.c.vrrp_state])
        for row in found
        if row["ago"] is not None
    }
    first = found[0]
    epoch, written = first[schema.lease.c.epoch], first[schema.lease.c.written]
    return Observed(tree=tree, heard=heard, pending_for=first["pending_for"], epoch=epoch, written=written)


def _of(resource: type[R], joined: Sequence[RowMapping]) -> tuple[R, ...]:
    """The rows of one of the tables that were joined, each once, oldest first."""
    table = schema.TABLES[resource].c
    by_id = {row[table.id]: row for row in joined if row[table.id] is not None}
    rows = sorted(by_id.values(), key=lambda row: (row[table.created_at], row[table.id]))
    return tuple(from_row(resource, row) for row in rows)


def _pools_and_monitors(conn: Connection, loadbalancer_id: str) -> Sequence[RowMapping]:
    """In one statement. A pool has a second monitor for as long as its first one is on its way out."""
    pool, monitor = schema.pool, schema.health_monitor
    found = conn.execute(
        select(pool, monitor)
        .outerjoin_from(pool, monitor, monitor.c.pool_id == pool.c.id)
        .where(pool.c.loadbalancer_id == loadbalancer_id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    return found.mappings().all()


def _loadbalancer_amphorae_listeners(conn: Connection, loadbalancer_id: str) -> Sequence[RowMapping]:
    """A row for each listener on each amphora, of which there are few. Raises LookupError where there is no such load
    balancer.
    """
    health, lease = schema.amphora_health, schema.lease.c
    listener = schema.listener
    pending_for = (now() - _lb.pending_since).label("pending_for")
    ago = (now() - health.c.last_update).label("ago")
    its = and_(_amphora.loadbalancer_id == _lb.id, _amphora.status != AmphoraStatus.DELETED)
    found = conn.execute(
        select(
            schema.load_balancer,
            *(pending_for, lease.epoch, lease.written),
            *(schema.amphora, ago, health.c.vrrp_state),
            listener,
        )
        .outerjoin_from(schema.load_balancer, schema.amphora, its)
        .outerjoin(health, health.c.amphora_id == _amphora.id)
        .outerjoin(schema.lease, lease.loadbalancer_id == _lb.id)
        .outerjoin(listener, listener.c.loadbalancer_id == _lb.id)
        .where(_lb.id == loadbalancer_id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    rows = found.mappings().all()
    if not rows:
        raise LookupError(f"load balancer {loadbalancer_id}")
    return rows


def commit_children(
    conn: Connection, tree: Tree, refused: Mapping[str, Fault], applied_forms: Mapping[str, dict[str, Any]]
) -> None:
    """What changed at or before the tree's generation is ACTIVE, what was deleted goes, what HAProxy refused is ERROR.

    ``refused`` maps ids to why; ``applied_forms`` maps ids of listeners and pools to the form that now runs.

    The tree only tells which tables need a statement: a row that changed at or before its generation, and not since,
    is in it as it still is.
    """
    loadbalancer_id, generation = tree.loadbalancer.id, tree.generation
    for resource, rows in _children_first(tree):
        table = schema.TABLES[resource]
        mine = and_(table.c.loadbalancer_id == loadbalancer_id, table.c.changed_generation <= generation)
        runs = [mine, table.c.id.not_in(refused)] if refused else [mine]
        if any(row.deleted_generation is not None for row in rows):
            conn.execute(delete(table).where(mine, table.c.deleted_generation <= generation))
        wanted = [row for row in rows if row.deleted_generation is None]
        forms = {row.id: applied_forms[row.id] for row in wanted if row.id in applied_forms}
        if forms or any(row.provisioning_status is not ProvisioningStatus.ACTIVE for row in wanted):
            _activate(conn, table, and_(*runs), forms)
        for row in wanted:
            if row.id in refused:
                error = {"provisioning_status": ProvisioningStatus.ERROR, "fault": asdict(refused[row.id])}
                conn.execute(update(table).where(mine, table.c.id == row.id).values(error))


def _children_first(tree: Tree) -> tuple[tuple[type[Configured], Sequence[Configured]], ...]:
    """In the order in which rows can be deleted: none is referenced by a later one."""
    return (Member, tree.members), (HealthMonitor, tree.healthmonitors), (Listener, tree.listeners), (Pool, tree.pools)


def _activate(conn: Connection, table: Table, mine: ColumnElement[bool], forms: Mapping[str, dict[str, Any]]) -> None:
    """What is pending, or failed before, runs; of listeners and pools, in these forms."""
    values: dict[str, Any] = {"provisioning_status": ProvisioningStatus.ACTIVE, "fault": None}
    if table is schema.health_monitor:
        values["operating_status"] = case(
            (table.c.admin_state_up, OperatingStatus.ONLINE), else_=OperatingStatus.OFFLINE
        )
    to_change = [table.c.provisioning_status.in_((*PENDING, ProvisioningStatus.ERROR))]
    if forms:
        known = {row_id: literal(form, table.c.applied_form.type) for row_id, form in forms.items()}
        values["applied_form"] = case(known, value=table.c.id, else_=table.c.applied_form)
        to_change.append(table.c.id.in_(forms))
    conn.execute(update(table).where(mine, or_(*to_change), table.c.deleted_generation.is_(None)).values(values))


def commit_converged(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    fault: Fault | None = None,
    again_in: float | None = None,
    seen_due_at: float | None = None,
) -> bool:
    """All of ``generation`` is done. The load balancer is ACTIVE unless more was accepted meanwhile; returns whether.

    Where half of it could not be reached, ``fault`` says so, and it is looked at again in ``again_in`` seconds.
    ``seen_due_at`` is the ``due_at`` that was read with the amphorae: one set since then is kept.
    """
    values = {
        "observed_generation": generation,
        "attempted_generation": generation,
        "fault": asdict(fault) if fault else None,
        "due_at": _unless_set_since(seen_due_at, now() + again_in if again_in is not None else null()),
        "failing_since": None,
    }
    mine = update(schema.load_balancer).where(_lb.id == loadbalancer_id)
    active = conn.execute(
        mine.where(_lb.generation == generation, _lb.deleted_generation.is_(None)).values(
            **values, provisioning_status=ProvisioningStatus.ACTIVE
        )
    )
    if not active.rowcount:
        conn.execute(mine.values(values))
    return not active.rowcount


def _unless_set_since(seen_due_at: float | None, due_at: Any) -> Any:
    """A new ``due_at``, but where someone asked for another look after the tree was read."""
    return case((_lb.due_at.is_not_distinct_from(seen_due_at), due_at), else_=_lb.due_at)


def commit_wait(
    conn: Connection, loadbalancer_id: str, generation: int, seconds: float, fault: Fault | None = None
) -> None:
    """Come back in ``seconds``; the status stays as it is, and so does what earlier attempts failed for, but for a
    new ``fault``.
    """
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            attempted_generation=generation,
            due_at=now() + seconds,
            fault=asdict(fault) if fault else _lb.fault,
        )
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
    for table in (schema.member, schema.health_monitor, schema.listener, schema.pool, schema.listener_statistics):
        conn.execute(delete(table).where(table.c.loadbalancer_id == loadbalancer_id))
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


def admit_boots(conn: Connection, amphora_ids: Collection[str], limit: int) -> set[str]:
    """Which of these amphorae may boot, where compute builds at most ``limit`` at a time; their boot begins now.

    One that was let before may again.
    """
    turns.take(conn, "amphorae boot")
    booting = and_(
        _amphora.status == AmphoraStatus.BOOTING,
        _amphora.boot_started_at.is_not(None),
        _amphora.active_at.is_(None),
        _amphora.replace_generation.is_(None),  # such a one goes when its successor is up
    )
    under_way = set(conn.execute(select(_amphora.id).where(booting)).scalars())
    fresh = [each for each in amphora_ids if each not in under_way][: max(0, limit - len(under_way))]
    if fresh:
        conn.execute(update(schema.amphora).where(_amphora.id.in_(fresh)).values(boot_started_at=now()))
    return {*fresh, *(each for each in amphora_ids if each in under_way)}


def add_amphora(conn: Connection, amphora: Amphora) -> None:
    """Insert an amphora's row: before anything is made for it."""
    conn.execute(insert(schema.amphora).values(to_row(amphora)))


def change_vip(conn: Connection, loadbalancer: LoadBalancer, values: Mapping[str, Any]) -> None:
    """Record what became of a load balancer's VIP, as it was when it was read: its port, its security group."""
    conn.execute(update(schema.load_balancer).where(_lb.id == loadbalancer.id).values(values))
    if values.get("vip_port_id", loadbalancer.vip_port_id) != loadbalancer.vip_port_id:
        its = update(schema.amphora).where(_amphora.loadbalancer_id == loadbalancer.id)
        conn.execute(its.values(ha_port_id=values["vip_port_id"]))


def change_amphora(conn: Connection, amphora: Amphora, values: Mapping[str, Any], moment: str | None = None) -> None:
    """Record what became of an amphora, as it was when it was read; ``moment`` is the column that gets the time.

    An ``applied_hash`` that someone took back since then (asking for another push) stays so.
    """
    changes = dict(values)
    if "applied_hash" in changes:
        is_as_read = _amphora.applied_hash.is_not_distinct_from(amphora.applied_hash)
        changes["applied_hash"] = case((is_as_read, changes["applied_hash"]), else_=_amphora.applied_hash)
    if moment:
        changes[moment] = now()
    conn.execute(update(schema.amphora).where(_amphora.id == amphora.id).values(updated_at=utcnow(), **changes))
