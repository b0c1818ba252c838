"""When the certificates of amphorae end: housekeeping hands those near their end to the workers."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from tavia.model.statuses import AmphoraStatus
from tavia.store import schema
from tavia.store.clock import now, utcnow

_amphora = schema.amphora.c
_lb = schema.load_balancer.c


def near_expiry(conn: Connection, buffer: float) -> list[str]:
    """Amphorae whose certificate expires within ``buffer`` seconds."""
    return list(
        conn.execute(
            select(_amphora.id).where(
                _amphora.status == AmphoraStatus.ALLOCATED,
                _amphora.cert_expiration <= utcnow() + timedelta(seconds=buffer),
            )
        ).scalars()
    )


def make_due(conn: Connection, buffer: float, most: int) -> int:
    """Have workers look at load balancers of such amphorae, those with the first expiry first; returns how many."""
    near = (
        select(_amphora.loadbalancer_id)
        .join(schema.load_balancer, _lb.id == _amphora.loadbalancer_id)
        .where(
            _amphora.status == AmphoraStatus.ALLOCATED,
            _amphora.cert_expiration <= utcnow() + timedelta(seconds=buffer),
            _lb.due_at.is_(None),
        )
        .order_by(_amphora.cert_expiration)
        .limit(most)
    )
    ids = set(conn.execute(near).scalars())
    conn.execute(update(schema.load_balancer).where(_lb.id.in_(ids), _lb.due_at.is_(None)).values(due_at=now()))
    return len(ids)


def first_expiry(conn: Connection) -> datetime | None:
    """When the first certificate of an amphora in use expires, UTC; None where there is none."""
    in_use = _amphora.status == AmphoraStatus.ALLOCATED
    first: datetime | None = conn.execute(select(func.min(_amphora.cert_expiration)).where(in_use)).scalar_one()
    return first
