"""Which load balancers want convergence now. Workers ask at each poll, housekeeping counts."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, and_, case, func, or_, select, true

from tavia.model.statuses import ProvisioningStatus
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.leases import Lease

_lb = schema.load_balancer.c

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
