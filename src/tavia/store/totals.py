"""How many load balancers there are and how long the ones that wait have waited. Housekeeping counts them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from tavia.model.statuses import PENDING, ProvisioningStatus
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.due import IS_DUE

_lb = schema.load_balancer.c


@dataclass(frozen=True, slots=True)
class Totals:
    """``by_status`` has every status but DELETED; ages are seconds, 0 where nothing waits."""

    by_status: Mapping[ProvisioningStatus, int]
    due: int
    oldest_due: float
    oldest_pending: float


def totals(conn: Connection, providers: Collection[str]) -> Totals:
    """Count in one statement. ``providers`` are those whose load balancers workers converge."""
    is_due = and_(IS_DUE, _lb.provider.in_(providers))
    due_since = case((_lb.generation > _lb.attempted_generation, _lb.pending_since), else_=_lb.due_at)
    rows = conn.execute(
        select(
            _lb.provisioning_status,
            func.count().label("number"),
            func.sum(case((is_due, 1), else_=0)).label("due"),
            func.max(case((is_due, now() - due_since), else_=0.0)).label("oldest_due"),
            func.max(case((_lb.provisioning_status.in_(PENDING), now() - _lb.pending_since), else_=0.0)).label(
                "oldest_pending"
            ),
        )
        .join(schema.lease, schema.lease.c.loadbalancer_id == _lb.id)
        .group_by(_lb.provisioning_status)
    ).all()
    counted = {row.provisioning_status: int(row.number) for row in rows}
    return Totals(
        by_status={s: counted.get(s, 0) for s in ProvisioningStatus if s is not ProvisioningStatus.DELETED},
        due=sum(int(row.due) for row in rows),
        oldest_due=max((float(row.oldest_due or 0.0) for row in rows), default=0.0),
        oldest_pending=max((float(row.oldest_pending or 0.0) for row in rows), default=0.0),
    )
