"""The journal: what was done to which load balancer, step by step. Audit, progress bar and timeline in one.

States of an operation: running, done, waiting, failed, handed-over (its worker was stopped), lost (its worker died or
was overtaken); of a step: running, done, failed. A step that was never closed ended when and as its operation did.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now

WENT_BACK = "database-went-back"
"""The event of a worker that met an amphora which holds what the database has forgotten."""

_operation = schema.operation.c
_step = schema.step.c

_END = ("what", "generation", "state", "seam", "code", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step: what is done to which subject, and the seam that it crosses."""

    id: str
    what: str
    seam: Seam
    subject: str


def open_operation(conn: Connection, *, loadbalancer_id: str, what: str, generation: int, epoch: int, host: str) -> str:
    """Begin an operation."""
    operation_id = str(uuid.uuid4())
    conn.execute(
        insert(schema.operation).values(
            id=operation_id,
            loadbalancer_id=loadbalancer_id,
            what=what,
            generation=generation,
            epoch=epoch,
            state="running",
            started=now(),
            host=host,
        )
    )
    return operation_id


def mark_lost(conn: Connection, loadbalancer_id: str) -> None:
    """End what is still marked running on a load balancer whose lease is not, or no longer, its worker's."""
    conn.execute(
        update(schema.operation)
        .where(_operation.loadbalancer_id == loadbalancer_id, _operation.state == "running")
        .values(state="lost", ended=now())
    )


def close_operation(conn: Connection, operation_id: str, state: str, failure: SeamError | None = None) -> None:
    """End an operation, with what failed."""
    conn.execute(
        update(schema.operation)
        .where(_operation.id == operation_id)
        .values(
            state=state,
            ended=now(),
            seam=failure.seam if failure else None,
            code=failure.code if failure else None,
            reason=failure.whole if failure else None,
        )
    )


def renew_last(conn: Connection, operation_id: str) -> None:
    """An operation that only looked, and ended as its load balancer's last one, is that one's renewed end.

    So what is looked at each second for minutes has one row, whoever looks.
    """
    this = conn.execute(select(schema.operation).where(_operation.id == operation_id)).one()
    last = conn.execute(
        select(_operation.id)
        .where(_operation.loadbalancer_id == this.loadbalancer_id, _operation.id != this.id)
        .order_by(_operation.started.desc(), _operation.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    is_same = [_operation[name].is_not_distinct_from(getattr(this, name)) for name in _END]
    renewed = conn.execute(update(schema.operation).where(_operation.id == last, *is_same).values(ended=this.ended))
    if renewed.rowcount:
        conn.execute(delete(schema.operation).where(_operation.id == this.id))


def open_steps(conn: Connection, operation_id: str, steps: Sequence[StepRecord]) -> None:
    """Begin steps that run side by side, in one statement."""
    conn.execute(
        insert(schema.step).values(started=now()),
        [
            {
                "id": step.id,
                "operation_id": operation_id,
                "what": step.what,
                "seam": step.seam,
                "subject": step.subject,
                "state": "running",
            }
            for step in steps
        ],
    )


def steps_done(conn: Connection, step_ids: Collection[str]) -> None:
    """End steps that went well."""
    conn.execute(update(schema.step).where(_step.id.in_(step_ids)).values(state="done", ended=now()))


def step_failed(conn: Connection, step_id: str, failure: SeamError) -> None:
    """End a step, with what failed."""
    conn.execute(
        update(schema.step)
        .where(_step.id == step_id)
        .values(state="failed", ended=now(), code=failure.code, reason=failure.whole)
    )


def event(conn: Connection, *, loadbalancer_id: str, what: str, failure: SeamError, host: str) -> None:
    """Something that happened at once: an operation that begins and ends here, with its reason."""
    conn.execute(
        insert(schema.operation).values(
            id=str(uuid.uuid4()),
            loadbalancer_id=loadbalancer_id,
            what=what,
            generation=0,
            epoch=0,
            state="done",
            started=now(),
            ended=now(),
            seam=failure.seam,
            code=failure.code,
            reason=failure.whole,
            host=host,
        )
    )
