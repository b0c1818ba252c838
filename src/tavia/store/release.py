"""Who works on a load balancer, why it is not done, and handing it to convergence again: ``tavia loadbalancer``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, true, update

from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
from tavia.store import history, journal, schema
from tavia.store.clock import now
from tavia.store.history import Criteria, Operation
from tavia.store.liveness import database_time
from tavia.store.rows import from_row

_amphora = schema.amphora.c
_lb = schema.load_balancer.c
_lease = schema.lease.c
_operation = schema.operation.c
_step = schema.step.c

RELEASED = "release"
"""The name under which an operator's release stands in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a load balancer's lease. Times are seconds since the epoch by the database's clock.

    ``until`` is when the lease ends unless it is renewed, ``operation`` what is done under it (None for the moment
    before that is recorded), ``progress`` when something was last begun or ended there.
    """

    owner: str
    until: float
    operation: Operation | None
    progress: float | None

    def latest(self, step_deadline: float, lease_ttl: float) -> float:
        """When the lease ends at the latest if the worker hangs: it is not renewed past a step's deadline."""
        return (self.progress or self.until) + step_deadline + lease_ttl


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A load balancer at one moment (``now``, seconds since the epoch): what is wanted, who works on it, what failed.

    ``amphorae`` are those that are not gone.
    """

    now: float
    loadbalancer: LoadBalancer
    holder: Holder | None
    last: Operation | None
    last_failure: Operation | None
    amphorae: tuple[Amphora, ...]


def situation(conn: Connection, loadbalancer_id: str) -> Situation:
    """How a load balancer, which must be there, stands; deleted ones too."""
    row = conn.execute(select(schema.load_balancer).where(_lb.id == loadbalancer_id)).mappings().one()
    amphorae = conn.execute(
        select(schema.amphora)
        .where(_amphora.loadbalancer_id == loadbalancer_id, _amphora.status != AmphoraStatus.DELETED)
        .order_by(_amphora.created_at, _amphora.id)
    )
    last = history.operations(conn, Criteria(loadbalancer_id=loadbalancer_id, limit=1))
    failed = history.operations(conn, Criteria(loadbalancer_id=loadbalancer_id, state="failed", limit=1))
    return Situation(
        now=database_time(conn),
        loadbalancer=from_row(LoadBalancer, row),
        holder=holder(conn, loadbalancer_id),
        last=last[0] if last else None,
        last_failure=failed[0] if failed else None,
        amphorae=tuple(from_row(Amphora, row) for row in amphorae.mappings()),
    )


def holder(conn: Connection, loadbalancer_id: str, *, ran_out: bool = False) -> Holder | None:
    """Who holds the lease now; with ``ran_out`` also who held it last. None where there is nobody."""
    lease = conn.execute(
        select(_lease.owner, _lease.until).where(
            _lease.loadbalancer_id == loadbalancer_id, true() if ran_out else _lease.until > now()
        )
    ).one_or_none()
    if lease is None:
        return None
    running = history.operations(conn, Criteria(loadbalancer_id=loadbalancer_id, state="running", limit=1))
    return Holder(
        owner=lease.owner,
        until=lease.until,
        operation=running[0] if running else None,
        progress=_progress(conn, running[0]) if running else None,
    )


def _progress(conn: Connection, running: Operation) -> float:
    begun, ended = conn.execute(
        select(func.max(_step.started), func.max(_step.ended)).where(_step.operation_id == running.id)
    ).one()
    return max(running.started, begun or 0.0, ended or 0.0)


def release(
    conn: Connection,
    loadbalancer_id: str,
    *,
    providers: Collection[str],
    boots_with: Mapping[str, str | None],
    asked_by: str,
    host: str,
) -> Holder | None:
    """Have a load balancer converged again, at once; None, or who works on it already: nothing is changed then.

    What a dead worker left is ended for good: a worker that was only frozen can no longer renew its lease. The pauses
    between tries begin anew, and its amphorae boot with ``boots_with`` from now on, columns of its row. Safe to repeat.
    Raises SeamError loadbalancer-deleted, other-provider.
    """
    freed = conn.execute(
        update(schema.lease)
        .where(_lease.loadbalancer_id == loadbalancer_id, _lease.until <= now())
        .values(owner="", until=0.0)
    )
    if not freed.rowcount and (held_by := holder(conn, loadbalancer_id, ran_out=True)):  # it may end just now
        return held_by
    found = conn.execute(
        update(schema.load_balancer)
        .where(
            _lb.id == loadbalancer_id,
            _lb.provider.in_(providers),
            _lb.provisioning_status != ProvisioningStatus.DELETED,
        )
        .values(due_at=now(), failing_since=None, **boots_with)
    )
    if not found.rowcount:
        raise _not_ours(conn, loadbalancer_id, providers)
    journal.mark_lost(conn, loadbalancer_id)
    journal.event(
        conn,
        loadbalancer_id=loadbalancer_id,
        what=RELEASED,
        failure=SeamError(Seam.CONTROL, "released", f"{asked_by} asked for it to be converged again, at once"),
        host=host,
    )
    return None


def _not_ours(conn: Connection, loadbalancer_id: str, providers: Collection[str]) -> SeamError:
    provider = conn.execute(select(_lb.provider).where(_lb.id == loadbalancer_id)).scalar_one_or_none()
    if provider is not None and provider not in providers:
        message = f"load balancer {loadbalancer_id} belongs to provider {provider}: only that one works on it"
        return SeamError(Seam.CONTROL, "other-provider", message, permanent=True)
    message = f"load balancer {loadbalancer_id} is deleted: nothing is left to converge"
    return SeamError(Seam.CONTROL, "loadbalancer-deleted", message, permanent=True)
