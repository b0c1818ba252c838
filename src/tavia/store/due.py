"""Which load balancers want convergence now. Workers ask at each poll, housekeeping counts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, or_, select, true

from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
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


_amphora = schema.amphora.c
_has_a_faulty_amphora = (
    select(_amphora.id)
    .where(_amphora.loadbalancer_id == _lb.id, _amphora.status == AmphoraStatus.ALLOCATED, _amphora.fault.is_not(None))
    .exists()
)
_is_troubled = or_(_lb.fault.is_not(None), _has_a_faulty_amphora)


@dataclass(frozen=True, slots=True)
class Due:
    """One that wants convergence: its free lease, and whether it or an amphora that serves it is known to have failed.

    Somebody who failed last time may cost a whole timeout this time.
    """

    lease: Lease
    is_troubled: bool


def due(conn: Connection, providers: Collection[str], limit: int) -> list[Due]:
    """Some load balancers of these providers that want convergence, in random order, the troubled in turn with others.

    By chance, so that workers who look at the same moment seldom want the same; but the longer one has waited, the
    sooner it comes, so that none is passed over again and again. In turn, so that no number of the ones keeps the
    others out of the list. A lease that somebody owns was not given back: it ran out.
    """
    lease = schema.lease.c
    is_troubled = case((_is_troubled, 1), else_=0)
    turn = func.row_number().over(partition_by=is_troubled, order_by=(_weight * func.abs(func.random())).desc())
    rows = conn.execute(
        select(_lb.id, lease.owner, lease.epoch, is_troubled.label("is_troubled"))
        .join(schema.lease, lease.loadbalancer_id == _lb.id)
        .where(_lb.provider.in_(providers), IS_DUE)
        .order_by(turn)
        .limit(limit)
    )
    return [Due(Lease(row.id, row.owner, row.epoch), bool(row.is_troubled)) for row in rows]
