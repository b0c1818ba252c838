"""Whether orphans may be removed: housekeeping stops in doubt, an operator lets it go on. Both stand in the journal."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tavia.store import journal, schema

STOPPED, ALLOWED = "orphan-removal-stopped", "orphan-removal-allowed"
"""What events of no load balancer say of it; the last one counts, so housekeeping keeps them however old they are."""
OF_NO_LOADBALANCER = ""

_operation = schema.operation.c


@dataclass(frozen=True, slots=True)
class Past:
    """What the database knows of itself: ``made`` is when, seconds since the epoch.

    ``went_back``: a worker found that it did, since an operator last allowed to remove orphans.
    """

    made: float
    went_back: bool


def stopped(conn: Connection) -> str | None:
    """Why housekeeping removes no orphans; None where it does."""
    what, _, reason = _last(conn)
    return reason if what == STOPPED else None


def past(conn: Connection) -> Past:
    """See :class:`Past`."""
    _, since, _ = _last(conn)
    of_loadbalancers = func.count(_operation.loadbalancer_id.distinct())  # one amphora may lie, of its own only
    events = select(of_loadbalancers).where(_operation.what == journal.WENT_BACK, _operation.started > since)
    made = conn.execute(select(schema.deployment.c.created)).scalar_one()
    return Past(made=float(made), went_back=conn.execute(events).scalar_one() > 1)


def _last(conn: Connection) -> tuple[str, float, str]:
    """What the last event says, since when, and why."""
    row = conn.execute(
        select(_operation.what, _operation.started, _operation.reason)
        .where(_operation.loadbalancer_id == OF_NO_LOADBALANCER, _operation.what.in_((STOPPED, ALLOWED)))
        .order_by(_operation.started.desc())
        .limit(1)
    ).one_or_none()
    return (row.what, row.started, row.reason) if row else (ALLOWED, 0.0, "")
