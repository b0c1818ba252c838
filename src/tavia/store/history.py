"""Reading the journal, newest first: the operator's ``tavia operation`` and ``tavia loadbalancer``.

Every list is a walk along an index that ends at its limit, so it costs the same on a journal of a million rows:
``ix_operation_loadbalancer`` for one load balancer, ``ix_operation_started`` otherwise. Conditions that neither
serves (state, host, what) are tested on the way; ``since`` bounds how far a rare one may look. An index on the state
would make every worker's writes lock each other's rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select

from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus
from tavia.store import schema
from tavia.store.clock import now

_operation = schema.operation.c
_step = schema.step.c
_lease = schema.lease.c
_lb = schema.load_balancer.c

E = TypeVar("E", bound="Entry")

NAMED = 10
"""Most candidates that an error about an ambiguous name or id lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an operation and a step have in common. Times are seconds since the epoch by the database's clock.

    ``took`` is seconds, until now while it runs; None where nobody knows when it ended.
    """

    id: str
    what: str
    state: str
    started: float
    ended: float | None
    took: float | None
    seam: str | None
    code: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Entry):
    """An operation. One that is recorded as running, while no lease holds its load balancer, is ``lost``."""

    loadbalancer_id: str
    loadbalancer_name: str | None
    generation: int
    epoch: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenStep(Entry):
    """A step of an operation, done to ``subject``: an amphora, a port or a role."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Which operations: conditions that are not None must all hold. ``since`` is seconds before now.

    ``before`` is the id of the last operation of the page before.
    """

    loadbalancer_id: str | None = None
    state: str | None = None
    host: str | None = None
    what: str | None = None
    since: float | None = None
    before: str | None = None
    limit: int | None = None


def operations(conn: Connection, criteria: Criteria) -> list[Operation]:
    """The newest operations that meet the criteria, newest first. Raises SeamError no-operation for ``before``."""
    last = operation(conn, criteria.before) if criteria.before is not None else None
    return [_entry(Operation, row) for row in conn.execute(listing(criteria, last))]


def operation(conn: Connection, id_or_beginning: str) -> Operation:
    """The operation with this id, or the only one whose id begins so. Raises SeamError."""
    found = conn.execute(
        _select_operations().where(_operation.id.startswith(id_or_beginning, autoescape=True)).limit(NAMED)
    ).all()
    if not found:
        message = f"the journal has no operation {id_or_beginning!r}; tavia operation list names the newest"
        raise SeamError(Seam.CONTROL, "no-operation", message)
    if len(found) > 1:
        ids = ", ".join(row.id for row in found)
        raise SeamError(Seam.CONTROL, "many-operations", f"several operations begin with {id_or_beginning!r}: {ids}")
    return _entry(Operation, found[0])


def steps(conn: Connection, of: Operation) -> list[TakenStep]:
    """The steps of an operation in the order in which they began; one that was not closed ended as that did."""
    state = case((_step.state == "running", of.state), else_=_step.state)
    ended = func.coalesce(_step.ended, of.ended)
    took = func.coalesce(ended, now()) - _step.started
    as_stored = (c for c in _step if c.name not in {"state", "ended"})
    rows = conn.execute(
        select(*as_stored, state.label("state"), ended.label("ended"), took.label("took"))
        .where(_step.operation_id == of.id)
        .order_by(_step.started, _step.id)
    )
    return [_entry(TakenStep, row) for row in rows]


def loadbalancer_id(conn: Connection, name_or_id: str) -> str:
    """The load balancer with this id, else the only one with this name; of deleted ones only where no other has it.

    Raises SeamError no-loadbalancer, many-loadbalancers.
    """
    is_deleted = _lb.provisioning_status == ProvisioningStatus.DELETED
    rows = conn.execute(
        select(_lb.id, _lb.project_id, _lb.provisioning_status, is_deleted.label("is_deleted"))
        .where(or_(_lb.id == name_or_id, _lb.name == name_or_id))
        .order_by((_lb.id == name_or_id).desc(), is_deleted, _lb.created_at.desc())
        .limit(NAMED + 1)
    ).all()
    if not rows:
        message = f"there is no load balancer with the id or name {name_or_id!r}; openstack loadbalancer list names all"
        raise SeamError(Seam.CONTROL, "no-loadbalancer", message)
    candidates = [row for row in rows if row.is_deleted == rows[0].is_deleted]
    if rows[0].id != name_or_id and len(candidates) > 1:
        raise SeamError(Seam.CONTROL, "many-loadbalancers", _several(name_or_id, candidates))
    return str(rows[0].id)


def _several(name: str, candidates: Sequence[Row[Any]]) -> str:
    lines = [f"{row.id}  {row.provisioning_status}, project {row.project_id}" for row in candidates[:NAMED]]
    more = ["and more"] if len(candidates) > NAMED else []
    return "\n  ".join([f"several load balancers are called {name!r}, say which by its id:", *lines, *more])


def listing(criteria: Criteria, last: Operation | None = None) -> Select[Any]:
    """The SELECT for operations that meet the criteria, after ``last``: a page is found by time, not by counting."""
    statement = _select_operations()
    for column, value in (
        (_operation.loadbalancer_id, criteria.loadbalancer_id),
        (_operation.host, criteria.host),
        (_operation.what, criteria.what),
        (_state(), criteria.state),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if criteria.since is not None:
        statement = statement.where(_operation.started >= now() - criteria.since)
    if last is not None:
        statement = statement.where(
            _operation.started <= last.started,
            or_(_operation.started < last.started, _operation.id < last.id),
        )
    return statement.order_by(_operation.started.desc(), _operation.id.desc()).limit(criteria.limit)


def _select_operations() -> Select[Any]:
    took = func.coalesce(_operation.ended, now()) - _operation.started
    return select(
        *(c for c in _operation if c.name != "state"),
        _state().label("state"),
        took.label("took"),
        _lb.name.label("loadbalancer_name"),
    ).outerjoin(schema.load_balancer, _lb.id == _operation.loadbalancer_id)


def _state() -> ColumnElement[str]:
    """What was left running by a worker that died is marked when the next one comes; it is lost before that."""
    is_held = select(_lease.loadbalancer_id).where(
        _lease.loadbalancer_id == _operation.loadbalancer_id, _lease.until > now()
    )
    return case((and_(_operation.state == "running", ~is_held.exists()), "lost"), else_=_operation.state)


def _entry(kind: type[E], row: Any) -> E:
    values: dict[str, Any] = {f.name: getattr(row, f.name, None) for f in dataclasses.fields(kind)}
    if values["state"] == "lost" and values["ended"] is None:
        values["took"] = None
    return kind(**values)
