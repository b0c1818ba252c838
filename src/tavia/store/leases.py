"""Leases: who may converge a load balancer, and the fence around all that it writes.

The database's clock decides liveness (``until``), the epoch decides safety: a worker that was paused past its lease
holds an older epoch, so its writes touch no row and its bundles are refused by the agents.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select, update

from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now

_lease = schema.lease.c


class LeaseLost(SeamError):
    """Another worker took the load balancer over: stop at once, write nothing."""

    def __init__(self, loadbalancer_id: str) -> None:
        super().__init__(Seam.CONTROL, "lease-lost", f"another worker converges load balancer {loadbalancer_id} now")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to converge one load balancer, under one epoch."""

    loadbalancer_id: str
    owner: str
    epoch: int


def take(conn: Connection, loadbalancer_id: str, owner: str, ttl: float) -> Lease | None:
    """Take a lease that is free or run out, for ``ttl`` seconds; None when someone holds it."""
    taken = conn.execute(
        update(schema.lease)
        .where(_lease.loadbalancer_id == loadbalancer_id, _lease.until <= now())
        .values(owner=owner, epoch=_lease.epoch + 1, until=now() + ttl)
    )
    if not taken.rowcount:
        return None
    epoch = conn.execute(select(_lease.epoch).where(_lease.loadbalancer_id == loadbalancer_id)).scalar_one()
    return Lease(loadbalancer_id, owner, epoch)


def touch(conn: Connection, lease: Lease, ttl: float) -> None:
    """Begin a fenced transaction; it renews the lease too. Raises LeaseLost."""
    touched = conn.execute(update(schema.lease).where(*_held(lease)).values(until=now() + ttl))
    if not touched.rowcount:
        raise LeaseLost(lease.loadbalancer_id)


def release(conn: Connection, lease: Lease) -> None:
    """Give it back, if it is still ours. Nobody owns it then: a renewal that was under way comes too late."""
    conn.execute(update(schema.lease).where(*_held(lease)).values(owner="", until=0.0))


def raise_epoch(conn: Connection, lease: Lease, held_by_agents: int) -> Lease:
    """Go past an epoch that agents hold: after a restore the database is behind them. Raises LeaseLost."""
    raised = conn.execute(update(schema.lease).where(*_held(lease)).values(epoch=held_by_agents + 1))
    if not raised.rowcount:
        raise LeaseLost(lease.loadbalancer_id)
    return Lease(lease.loadbalancer_id, lease.owner, held_by_agents + 1)


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        _lease.loadbalancer_id == lease.loadbalancer_id,
        _lease.owner == lease.owner,
        _lease.epoch == lease.epoch,
    )
