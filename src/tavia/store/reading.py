"""What the API reads: single objects, the ids that belong to them, sums of statistics, counts for quotas.

Load balancers and amphorae that are gone for good keep their row for a while; nothing here sees those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, case, exists, func, select, true

from tavia.model.protocols import Transport, over
from tavia.model.resources import (
    Amphora,
    Configured,
    HealthMonitor,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    children_of,
)
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.rows import from_row

R = TypeVar("R")

MOST_COUNTED = 2**63 - 1


def visible(resource: type[Any]) -> ColumnElement[bool]:
    """The condition that a row still exists for users."""
    if resource is LoadBalancer:
        return schema.load_balancer.c.provisioning_status != ProvisioningStatus.DELETED
    if resource is Amphora:
        return schema.amphora.c.status != AmphoraStatus.DELETED
    return true()


def find(conn: Connection, resource: type[R], object_id: str, *conditions: ColumnElement[bool]) -> R | None:
    """One object, or None where it is not there (any more) or misses a condition."""
    found = find_all(conn, resource, schema.TABLES[resource].c.id == object_id, *conditions)
    return found[0] if found else None


def get(conn: Connection, resource: type[R], object_id: str) -> R:
    """One object that must be there: another row refers to it. Raises LookupError."""
    found = find(conn, resource, object_id)
    if found is None:
        raise LookupError(f"{resource.__name__} {object_id}")
    return found


def find_all(conn: Connection, resource: type[R], *conditions: ColumnElement[bool]) -> list[R]:
    """All objects that meet the conditions, oldest first."""
    table = schema.TABLES[resource]
    statement = select(table).where(*conditions, visible(resource)).order_by(table.c.created_at, table.c.id)
    return [from_row(resource, row) for row in conn.execute(statement).mappings()]


def intended(resource: type[Configured]) -> ColumnElement[bool]:
    """The condition that a row is not marked deleted: only such a row is in use."""
    return schema.TABLES[resource].c.deleted_generation.is_(None)


def below(resource: type[Configured], parent_id: str) -> ColumnElement[bool]:
    """The condition that a row stands right below this parent."""
    return schema.TABLES[resource].c[resource.parent] == parent_id


def ids_by(
    conn: Connection, resource: type[Configured], parent: str, parents: Select[tuple[str]]
) -> dict[str, list[str]]:
    """The ids of rows, oldest first, by the id in their column ``parent`` where that is one of ``parents``."""
    table = schema.TABLES[resource]
    column = table.c[parent]
    rows = conn.execute(
        select(column, table.c.id).where(column.in_(parents)).order_by(table.c.created_at, table.c.id)
    ).all()
    grouped: dict[str, list[str]] = {}
    for parent_id, row_id in rows:
        grouped.setdefault(parent_id, []).append(row_id)
    return grouped


def has_monitor(conn: Connection, pool_id: str) -> bool:
    """Whether the pool's members are checked."""
    return bool(conn.execute(select(_has_monitor(pool_id))).scalar())


def _has_monitor(pool_id: str) -> ColumnElement[bool]:
    return exists().where(schema.health_monitor.c.pool_id == pool_id, intended(HealthMonitor))


def listener_at(conn: Connection, loadbalancer_id: str, transport: Transport, port: int) -> str | None:
    """The listener of the load balancer on this port of a transport, if one is intended there."""
    listener = schema.listener.c
    return conn.execute(
        select(listener.id).where(
            listener.loadbalancer_id == loadbalancer_id,
            listener.protocol_port == port,
            listener.protocol.in_(over(transport)),
            intended(Listener),
        )
    ).scalar()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new member is to be; no ``pool``: nowhere. ``is_taken``: another one has its address and port.

    Until its load balancer's ``generation`` is followed by another one, all of this stays so.
    """

    pool: Pool | None
    has_monitor: bool = False
    is_taken: bool = False
    generation: int = 0


def place_for_member(conn: Connection, pool_id: str, address: str, port: int) -> Place:
    """What is to be known before a member is added. A member on its way out takes no place."""
    pool, loadbalancer, member = schema.pool.c, schema.load_balancer.c, schema.member.c
    is_taken = exists().where(
        member.pool_id == pool_id, member.address == address, member.protocol_port == port, intended(Member)
    )
    row = (
        conn.execute(
            select(
                schema.pool,
                _has_monitor(pool_id).label("has_monitor"),
                is_taken.label("is_taken"),
                loadbalancer.generation.label("generation"),
            )
            .join(schema.load_balancer, loadbalancer.id == pool.loadbalancer_id)
            .where(pool.id == pool_id)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return Place(None)
    return Place(from_row(Pool, row), bool(row["has_monitor"]), bool(row["is_taken"]), row["generation"])


def vip_port_in_use(conn: Connection, port_id: str) -> bool:
    """Whether a load balancer has this port for its VIP."""
    loadbalancer = schema.load_balancer.c
    found = conn.execute(
        select(loadbalancer.id).where(loadbalancer.vip_port_id == port_id, visible(LoadBalancer)).limit(1)
    )
    return found.first() is not None


def has_children(conn: Connection, loadbalancer_id: str) -> bool:
    """Whether anything is intended below a load balancer."""
    return any(
        conn.execute(
            select(schema.TABLES[resource].c.id).where(below(resource, loadbalancer_id), intended(resource)).limit(1)
        ).first()
        for resource in children_of(LoadBalancer)
    )


def count(conn: Connection, resource: type[Configured], project_id: str) -> int:
    """How many of a resource a project has; what is marked deleted no longer counts."""
    table = schema.TABLES[resource]
    statement = select(func.count()).where(table.c.project_id == project_id, intended(resource), visible(resource))
    return conn.execute(statement).scalar_one()


def statistics_sum(conn: Connection, column: str, object_id: str, timeout: float) -> dict[str, int]:
    """The counters of a listener or load balancer (``column`` listener_id or loadbalancer_id), over its amphorae.

    No more than clients read into 64 bits. ``timeout`` as in :func:`statistics_of_amphora`.
    """
    sums = []
    for counter in _counters(timeout):  # in halves: SQLite's sum fails where it needs more than 64 bits
        sums += [func.sum(counter.bitwise_rshift(32)), func.sum(counter.bitwise_and(2**32 - 1))]
    row = conn.execute(select(*sums).where(schema.listener_statistics.c[column] == object_id)).one()
    halves = [int(value or 0) for value in row]
    whole = [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
    return {name: min(value, MOST_COUNTED) for name, value in zip(schema.COUNTERS, whole, strict=True)}


def statistics_of_amphora(conn: Connection, amphora_id: str, timeout: float) -> list[Row[Any]]:
    """The counters of each listener on an amphora: no connections, where it was not heard for ``timeout`` seconds."""
    its = schema.listener_statistics.c
    columns = (its.listener_id, its.loadbalancer_id, *_counters(timeout))
    return list(conn.execute(select(*columns).where(its.amphora_id == amphora_id).order_by(its.listener_id)))


def _counters(timeout: float) -> list[ColumnElement[Any]]:
    table, health = schema.listener_statistics.c, schema.amphora_health.c
    is_heard = exists().where(health.amphora_id == table.amphora_id, health.last_update > now() - timeout)
    active = case((is_heard, table.active_connections), else_=0)
    of_all = {name: table[name] for name in schema.COUNTERS} | {"active_connections": active}
    return [counter.label(name) for name, counter in of_all.items()]
