"""What the API and the health-manager write: what should be. Each function is part of one accepting transaction.

The first statement of every such transaction is :func:`begin_change`: it takes the load balancer's row lock and its
new generation. All that is validated against other rows is read after it, in the same transaction; what was read
before it still holds where the generation then was the one before this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Column, Connection, Table, case, exists, func, insert, literal, select, update

from tavia.model.resources import CHILDREN, Configured, Listener, LoadBalancer, children_of
from tavia.model.statuses import PENDING, AmphoraStatus, OperatingStatus, ProvisioningStatus, changed
from tavia.store import once, schema
from tavia.store.clock import now
from tavia.store.rows import to_row

_lb = schema.load_balancer.c

AT_ONCE = 500
"""Rows that one statement gives values of their own: each value is compared with each row."""


class NoSuchLoadBalancer(LookupError):
    """There is no such load balancer, or it is deleted already."""


class BeingDeleted(Exception):
    """The load balancer's deletion was accepted: it takes no changes any more."""


class Immutable(Exception):
    """The load balancer's status does not allow this now (``immutable_while_pending``). ``status`` is its status."""

    def __init__(self, status: ProvisioningStatus) -> None:
        super().__init__(status)
        self.status = status


def create_loadbalancer(conn: Connection, loadbalancer: LoadBalancer) -> None:
    """Insert a new load balancer, at generation 1, and its lease, which nobody holds."""
    once.refuse_second_run(conn)
    conn.execute(insert(schema.load_balancer).values({**to_row(loadbalancer), "pending_since": now()}))
    conn.execute(insert(schema.lease).values(loadbalancer_id=loadbalancer.id, owner="", epoch=0, until=0.0, written=""))
    once.accept(conn, loadbalancer.id)


def begin_change(
    conn: Connection, loadbalancer_id: str, only_from: Collection[ProvisioningStatus] | None = None
) -> int:
    """Accept a change below or of a load balancer; returns its new generation.

    ``only_from`` are the statuses in which it is accepted, None for all. Raises NoSuchLoadBalancer, BeingDeleted,
    Immutable.
    """
    return _accept(conn, loadbalancer_id, only_from, _pending())


def begin_delete(
    conn: Connection, loadbalancer_id: str, only_from: Collection[ProvisioningStatus] | None = None
) -> int:
    """Accept the deletion of a load balancer, again too after it failed. Raises as :func:`begin_change`."""
    intent = {"deleted_generation": func.coalesce(_lb.deleted_generation, _lb.generation + 1)}
    status = {"provisioning_status": ProvisioningStatus.PENDING_DELETE}
    return _accept(conn, loadbalancer_id, only_from, status | intent, even_deleted=True)


def _pending() -> dict[str, Any]:
    return {"provisioning_status": _after_change(_lb.provisioning_status)}


def _after_change(status: Any) -> Any:
    return case({before: changed(before) for before in ProvisioningStatus}, value=status)


def _accept(
    conn: Connection,
    loadbalancer_id: str,
    only_from: Collection[ProvisioningStatus] | None,
    values: Mapping[str, Any],
    *,
    even_deleted: bool = False,
) -> int:
    once.refuse_second_run(conn)
    conditions = [_lb.id == loadbalancer_id, _lb.provisioning_status != ProvisioningStatus.DELETED]
    if not even_deleted:
        conditions.append(_lb.deleted_generation.is_(None))
    if only_from is not None:
        conditions.append(_lb.provisioning_status.in_(only_from))
    pending_since = case((_lb.provisioning_status.in_(PENDING), _lb.pending_since), else_=now())
    # In this order: MariaDB assigns from left to right, and what is on the right of a later one is new by then.
    assignments: dict[str, Any] = {
        "pending_since": pending_since,
        **values,
        "failing_since": None,
        "changed_generation": _lb.generation + 1,
        "generation": _lb.generation + 1,
    }
    accepted = conn.execute(
        update(schema.load_balancer).where(*conditions).ordered_values(*((_lb[k], v) for k, v in assignments.items()))
    )
    if accepted.rowcount:
        return once.accept(conn, loadbalancer_id)
    row = conn.execute(
        select(_lb.provisioning_status, _lb.deleted_generation).where(_lb.id == loadbalancer_id)
    ).one_or_none()
    if row is None or row.provisioning_status == ProvisioningStatus.DELETED:
        raise NoSuchLoadBalancer(loadbalancer_id)
    if row.deleted_generation is not None and not even_deleted:
        raise BeingDeleted(loadbalancer_id)
    raise Immutable(ProvisioningStatus(row.provisioning_status))


def add(conn: Connection, resource: Configured, generation: int) -> None:
    """Insert a child that is to exist from this generation on."""
    add_all(conn, [resource], generation)


def add_all(conn: Connection, resources: Sequence[Configured], generation: int) -> None:
    """Insert children, one statement a resource. Those that others reference must come before them."""
    for resource, rows in groupby(resources, key=type):
        values = [to_row(row) | {"changed_generation": generation} for row in rows]
        conn.execute(insert(schema.TABLES[resource]), values)


def change(conn: Connection, resource: type[Configured], ids: Collection[str], generation: int, **values: Any) -> None:
    """Set attributes of rows, or only their status where no values are given; one never applied stays PENDING_CREATE.

    Rows marked deleted are left alone.
    """
    if ids:
        _change_where(conn, resource, generation, schema.TABLES[resource].c.id.in_(ids), values)


def change_each(
    conn: Connection, resource: type[Configured], values: Mapping[str, Mapping[str, Any]], generation: int
) -> None:
    """As :func:`change`, to values of each row's own, by its id: one statement for :data:`AT_ONCE` rows."""
    table = schema.TABLES[resource]
    for first in range(0, len(values), AT_ONCE):
        some = dict(islice(values.items(), first, first + AT_ONCE))
        columns = [table.c[name] for name in sorted({name for its in some.values() for name in its})]
        to_set = {column.name: _of_each(table, column, some) for column in columns}
        _change_where(conn, resource, generation, table.c.id.in_(some), to_set)


def _of_each(table: Table, column: Column[Any], values: Mapping[str, Mapping[str, Any]]) -> Any:
    known = {row_id: literal(its[column.name], column.type) for row_id, its in values.items() if column.name in its}
    return case(known, value=table.c.id, else_=column)


def touch_listeners_of(conn: Connection, pool_ids: Collection[str], generation: int) -> None:
    """Set the listeners pending whose default pool is one of these, which change."""
    _change_where(conn, Listener, generation, schema.listener.c.default_pool_id.in_(pool_ids), {})


def _change_where(
    conn: Connection, resource: type[Configured], generation: int, condition: Any, values: Mapping[str, Any]
) -> None:
    table = schema.TABLES[resource]
    conn.execute(
        update(table)
        .where(condition, table.c.deleted_generation.is_(None))
        .values(
            provisioning_status=_after_change(table.c.provisioning_status),
            changed_generation=generation,
            **values,
        )
    )


def mark_deleted(conn: Connection, resource: type[Configured], ids: Any, generation: int) -> None:
    """Mark rows for deletion, with all that stands below them; the worker removes what they stand for, then them.

    ``ids`` is a collection, or a SELECT.
    """
    table = schema.TABLES[resource]
    for child in children_of(resource):
        below = schema.TABLES[child].c
        mark_deleted(conn, child, select(below.id).where(below[child.parent].in_(ids)), generation)
    _mark_deleted_where(conn, resource, generation, table.c.id.in_(ids))


def mark_children_deleted(conn: Connection, loadbalancer_id: str, generation: int) -> None:
    """Cascade: mark all that stands below a load balancer."""
    for resource in CHILDREN:
        table = schema.TABLES[resource]
        _mark_deleted_where(conn, resource, generation, table.c.loadbalancer_id == loadbalancer_id)


def _mark_deleted_where(conn: Connection, resource: type[Configured], generation: int, condition: Any) -> None:
    table = schema.TABLES[resource]
    conn.execute(
        update(table)
        .where(condition, table.c.deleted_generation.is_(None))
        .values(
            deleted_generation=generation,
            changed_generation=generation,
            provisioning_status=ProvisioningStatus.PENDING_DELETE,
        )
    )


def forget_default_pool(conn: Connection, pool_id: str, generation: int) -> None:
    """Take a pool that goes away from the listeners that have it as their default."""
    listener = schema.listener.c
    listener_ids = conn.execute(
        select(listener.id).where(listener.default_pool_id == pool_id, listener.deleted_generation.is_(None))
    ).scalars()
    change(conn, Listener, list(listener_ids), generation, default_pool_id=None)


def unmonitor(conn: Connection, pool_id: str) -> None:
    """A pool's monitor goes: no one tells any more how its members are."""
    member = schema.member.c
    unknown = OperatingStatus.NO_MONITOR
    conn.execute(update(schema.member).where(member.pool_id == pool_id).values(operating_status=unknown))


def replace_amphorae(conn: Connection, loadbalancer_id: str, generation: int, amphora_ids: Collection[str]) -> int:
    """Ask for the replacement of amphorae; one already asked for is left alone. Returns how many were marked."""
    amphora = schema.amphora.c
    marked = conn.execute(
        update(schema.amphora)
        .where(
            amphora.loadbalancer_id == loadbalancer_id,
            amphora.id.in_(amphora_ids),
            amphora.replace_generation.is_(None),
            amphora.status.in_((AmphoraStatus.ALLOCATED, AmphoraStatus.BOOTING, AmphoraStatus.ERROR)),
        )
        .values(replace_generation=generation)
    )
    return marked.rowcount


def standing_amphorae(conn: Connection, loadbalancer_id: str) -> list[str]:
    """The amphorae that a failover of the load balancer replaces: all that exist and are not on their way out."""
    amphora = schema.amphora.c
    return list(
        conn.execute(
            select(amphora.id).where(
                amphora.loadbalancer_id == loadbalancer_id,
                amphora.status.not_in((AmphoraStatus.DELETED, AmphoraStatus.PENDING_DELETE)),
            )
        ).scalars()
    )


def look_again(conn: Connection, loadbalancer_id: str) -> None:
    """Have a load balancer converged now, though nothing of it changed."""
    conn.execute(update(schema.load_balancer).where(_lb.id == loadbalancer_id).values(due_at=now()))


def remove_again(conn: Connection, amphora_id: str) -> None:
    """Have a replaced amphora's removal repeated: it came back and sent a heartbeat."""
    amphora = schema.amphora.c
    came_back = (AmphoraStatus.DELETED, AmphoraStatus.PENDING_DELETE)
    conn.execute(
        update(schema.amphora)
        .where(amphora.id == amphora_id, amphora.status.in_(came_back))
        .values(status=AmphoraStatus.PENDING_DELETE)
    )
    conn.execute(
        update(schema.load_balancer)
        .where(
            exists().where(amphora.id == amphora_id, amphora.loadbalancer_id == _lb.id),
        )
        .values(due_at=now())
    )
