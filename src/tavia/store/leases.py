"""Leases: who may converge a load balancer, and the fence around all that it writes.

The database's clock decides liveness (``until``), the epoch decides safety: a worker that was paused past its lease
holds an older epoch, so its writes touch no row and its bundles are refused by the agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.once import CommittedBefore, run_of

_lease = schema.lease.c


class LeaseLost(SeamError):
    """Another worker took the load balancer over: stop at once, write nothing."""

    def __init__(self, loadbalancer_id: str) -> None:
        super().__init__(Seam.CONTROL, "lease-lost", f"another worker converges load balancer {loadbalancer_id} now")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to converge one load balancer, under one epoch. Nobody owns one that was given back."""

    loadbalancer_id: str
    owner: str
    epoch: int


def seen(conn: Connection, loadbalancer_id: str) -> Lease:
    """The lease as it stands, whether or not someone holds it."""
    row = conn.execute(select(_lease.owner, _lease.epoch).where(_lease.loadbalancer_id == loadbalancer_id)).one()
    return Lease(loadbalancer_id, row.owner, row.epoch)


def take(conn: Connection, last: Lease, owner: str, ttl: float) -> Lease | None:
    """Take a lease for ``ttl`` seconds that is free or run out, and was not taken since it was ``last`` seen; or None.

    So whoever comes with an old list does nothing that another worker has done meanwhile. ``owner`` is a nonce of
    this very attempt: a lease that it holds was taken by an earlier run of this transaction.
    """
    epoch = last.epoch + 1
    is_free = and_(_lease.epoch == last.epoch, _lease.until <= now())
    is_ours = and_(_lease.epoch == epoch, _lease.owner == owner)
    taken = conn.execute(
        update(schema.lease)
        .where(_lease.loadbalancer_id == last.loadbalancer_id, or_(is_free, is_ours))
        .values(owner=owner, epoch=epoch, until=now() + ttl)
    )
    return Lease(last.loadbalancer_id, owner, epoch) if taken.rowcount else None


def renew(conn: Connection, lease: Lease, ttl: float) -> None:
    """Hold it for longer; nothing else is written with it. Raises LeaseLost."""
    _touch(conn, lease, until=now() + ttl)


def touch(conn: Connection, lease: Lease, ttl: float) -> None:
    """Begin a fenced transaction; it renews the lease too. Raises LeaseLost, CommittedBefore."""
    _fence(conn, lease, until=now() + ttl)


def release(conn: Connection, lease: Lease) -> None:
    """Begin the last fenced transaction, which gives the lease back; otherwise as :func:`touch`.

    Nobody owns it then: a renewal that was under way comes too late.
    """
    _fence(conn, lease, owner="", until=0.0)


def mark(conn: Connection) -> str:
    """What a fenced transaction leaves in its lease, see :meth:`tavia.store.trees.Observed.is_behind`."""
    run = run_of(conn)
    return f"{run.transaction}.{run.number}"


def _fence(conn: Connection, lease: Lease, **values: Any) -> None:
    run = run_of(conn)
    if not run.is_sure:
        found = select(_lease.written).where(_lease.loadbalancer_id == lease.loadbalancer_id).with_for_update()
        transaction, _, number = (conn.execute(found).scalar_one_or_none() or "").rpartition(".")
        if transaction == run.transaction:
            raise CommittedBefore(int(number))
    _touch(conn, lease, written=mark(conn), **values)


def _touch(conn: Connection, lease: Lease, **values: Any) -> None:
    touched = conn.execute(update(schema.lease).where(*_held(lease)).values(values))
    if not touched.rowcount:
        raise LeaseLost(lease.loadbalancer_id)


def raise_epoch(conn: Connection, lease: Lease, held_by_agents: int) -> Lease:
    """Go past an epoch that agents hold: after a restore the database is behind them. Raises LeaseLost."""
    epoch = held_by_agents + 1
    raised = conn.execute(
        update(schema.lease)
        .where(
            _lease.loadbalancer_id == lease.loadbalancer_id,
            _lease.owner == lease.owner,
            _lease.epoch.in_((lease.epoch, epoch)),  # done already where the answer to a COMMIT was lost
        )
        .values(epoch=epoch)
    )
    if not raised.rowcount:
        raise LeaseLost(lease.loadbalancer_id)
    return Lease(lease.loadbalancer_id, lease.owner, epoch)


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        _lease.loadbalancer_id == lease.loadbalancer_id,
        _lease.owner == lease.owner,
        _lease.epoch == lease.epoch,
    )
