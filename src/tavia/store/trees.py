"""Whole trees, read in one snapshot and in as many statements as the model's declarations say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, FromClause, RowMapping, and_, select

from tavia.model.resources import CHILDREN, Amphora, Configured, LoadBalancer, children_of
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Rows, Tree
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.leases import Lease
from tavia.store.rows import from_row

_lb = schema.load_balancer.c
_amphora = schema.amphora.c

R = TypeVar("R")


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
    """The tree as :func:`read_tree`, and how its amphorae and tenants do. Raises LookupError where there is none."""
    found = _loadbalancer_with_amphorae(conn, loadbalancer_id)
    rows = [row for resource in _read_with(LoadBalancer) for row in _of(resource, found)]
    for resource in CHILDREN:
        if not resource.read_with_parent:
            together = (resource, *_read_with(resource))
            read = _read(conn, together, loadbalancer_id)
            rows += [row for each in together for row in _of(each, read)]
    tree = Tree(loadbalancer=from_row(LoadBalancer, found[0]), rows=Rows(rows), amphorae=_of(Amphora, found))
    heard = {
        row[_amphora.id]: Heard(row["ago"], row[schema.amphora_health.c.vrrp_state])
        for row in found
        if row["ago"] is not None
    }
    first = found[0]
    epoch, written = first[schema.lease.c.epoch], first[schema.lease.c.written]
    return Observed(tree=tree, heard=heard, pending_for=first["pending_for"], epoch=epoch, written=written)


def read_reported(conn: Connection, loadbalancer_ids: Collection[str]) -> list[Tree]:
    """Of several load balancers what heartbeats tell the operating statuses of: one statement a resource for all."""
    rows: dict[str, list[Configured]] = {}
    for resource in (each for each in CHILDREN if each.is_reported):
        table = schema.TABLES[resource]
        for row in conn.execute(select(table).where(table.c.loadbalancer_id.in_(loadbalancer_ids))).mappings():
            rows.setdefault(row[table.c.loadbalancer_id], []).append(from_row(resource, row))
    found = conn.execute(select(schema.load_balancer).where(_lb.id.in_(loadbalancer_ids))).mappings()
    loadbalancers = [from_row(LoadBalancer, row) for row in found]
    return [Tree(loadbalancer=each, rows=Rows(rows.get(each.id, ()))) for each in loadbalancers]


def _read_with(resource: type[Configured]) -> tuple[type[Configured], ...]:
    """What stands below a resource and is read by the same statement."""
    below = [each for each in children_of(resource) if each.read_with_parent]
    return tuple(each for child in below for each in (child, *_read_with(child)))


def _joined(start: FromClause, resources: Sequence[type[Configured]]) -> FromClause:
    """With the rows of these resources, parents first, each at its parent's."""
    for resource in resources:
        table = schema.TABLES[resource]
        column = table.c[resource.parent]
        start = start.outerjoin(table, column == next(iter(column.foreign_keys)).column)
    return start


def _read(conn: Connection, together: Sequence[type[Configured]], loadbalancer_id: str) -> Sequence[RowMapping]:
    first = schema.TABLES[together[0]]
    found = conn.execute(
        select(*(schema.TABLES[each] for each in together))
        .select_from(_joined(first, together[1:]))
        .where(first.c.loadbalancer_id == loadbalancer_id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    return found.mappings().all()


def _loadbalancer_with_amphorae(conn: Connection, loadbalancer_id: str) -> Sequence[RowMapping]:
    """A row for each of what is read with it on each amphora, of which there are few."""
    health, lease, below = schema.amphora_health, schema.lease.c, _read_with(LoadBalancer)
    pending_for = (now() - _lb.pending_since).label("pending_for")
    ago = (now() - health.c.last_update).label("ago")
    its = and_(_amphora.loadbalancer_id == _lb.id, _amphora.status != AmphoraStatus.DELETED)
    amphorae = (
        schema.load_balancer.outerjoin(schema.amphora, its)
        .outerjoin(health, health.c.amphora_id == _amphora.id)
        .outerjoin(schema.lease, lease.loadbalancer_id == _lb.id)
    )
    found = conn.execute(
        select(
            schema.load_balancer,
            *(pending_for, lease.epoch, lease.written),
            *(schema.amphora, ago, health.c.vrrp_state),
            *(schema.TABLES[each] for each in below),
        )
        .select_from(_joined(amphorae, below))
        .where(_lb.id == loadbalancer_id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    rows = found.mappings().all()
    if not rows:
        raise LookupError(f"load balancer {loadbalancer_id}")
    return rows


def _of(resource: type[R], joined: Sequence[RowMapping]) -> tuple[R, ...]:
    """The rows of one of the tables that were joined, each once, oldest first."""
    table = schema.TABLES[resource].c
    by_id = {row[table.id]: row for row in joined if row[table.id] is not None}
    rows = sorted(by_id.values(), key=lambda row: (row[table.created_at], row[table.id]))
    return tuple(from_row(resource, row) for row in rows)
