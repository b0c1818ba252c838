"""What a convergence commits under its lease: what was applied, what waits, what failed, what is gone.

Commits are set-based: ``changed_generation <= g`` is evaluated when they run, never over ids from the snapshot, so
a change accepted meanwhile stays PENDING until its own generation is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, literal, null, or_, select, update

from tavia.model.forms import Form
from tavia.model.resources import CHILDREN, Configured, LoadBalancer
from tavia.model.seams import Fault
from tavia.model.statuses import OperatingStatus, ProvisioningStatus, applied, operating_when_applied
from tavia.model.tree import Tree
from tavia.store import schema
from tavia.store.clock import now

_lb = schema.load_balancer.c
_FAILING_SINCE = func.coalesce(_lb.failing_since, now())


def commit_children(
    conn: Connection, tree: Tree, refused: Mapping[str, Fault], applied_forms: Mapping[str, Form]
) -> None:
    """What changed at or before the tree's generation is ACTIVE, what was deleted goes, what HAProxy refused is ERROR.

    ``refused`` maps ids to why; ``applied_forms`` maps ids of units' heads to the form that now runs.

    The tree only tells which tables need a statement: a row that changed at or before its generation, and not since,
    is in it as it still is.
    """
    loadbalancer_id, generation = tree.loadbalancer.id, tree.generation
    for resource in reversed(CHILDREN):
        rows, table = tree.of(resource), schema.TABLES[resource]
        mine = and_(table.c.loadbalancer_id == loadbalancer_id, table.c.changed_generation <= generation)
        if any(row.deleted_generation is not None for row in rows):
            conn.execute(delete(table).where(mine, table.c.deleted_generation <= generation))
        intended = [row for row in rows if row.deleted_generation is None]
        forms = {row.id: applied_forms[row.id] for row in intended if row.id in applied_forms}
        if forms or any(row.provisioning_status is not ProvisioningStatus.ACTIVE for row in intended):
            _activate(conn, resource, and_(mine, table.c.id.not_in(refused)) if refused else mine, forms)
        of_a_fault: dict[Fault, list[str]] = {}
        for row in intended:
            if row.id in refused:
                of_a_fault.setdefault(refused[row.id], []).append(row.id)
        for fault, ids in of_a_fault.items():
            error = {"provisioning_status": ProvisioningStatus.ERROR, "fault": asdict(fault)}
            conn.execute(update(table).where(mine, table.c.id.in_(ids)).values(error))


def _activate(
    conn: Connection, resource: type[Configured], mine: ColumnElement[bool], forms: Mapping[str, Form]
) -> None:
    """What is pending, or failed before, runs; of units' heads, in these forms."""
    table = schema.TABLES[resource]
    values: dict[str, Any] = {"provisioning_status": ProvisioningStatus.ACTIVE, "fault": None}
    if not resource.is_reported:
        values["operating_status"] = case(
            (table.c.admin_state_up, operating_when_applied(True)), else_=operating_when_applied(False)
        )
    waiting = [status for status in ProvisioningStatus if applied(status) is not status]
    to_change = [table.c.provisioning_status.in_(waiting)]
    if forms:
        known = {row_id: literal(form, table.c.applied_form.type) for row_id, form in forms.items()}
        values["applied_form"] = case(known, value=table.c.id, else_=table.c.applied_form)
        to_change.append(table.c.id.in_(forms))
    conn.execute(update(table).where(mine, or_(*to_change), table.c.deleted_generation.is_(None)).values(values))


def commit_converged(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    fault: Fault | None = None,
    again_in: float | None = None,
    seen_due_at: float | None = None,
    *,
    is_failing: bool = False,
) -> bool:
    """All of ``generation`` is done. The load balancer is ACTIVE unless more was accepted meanwhile; returns whether.

    Where half of it could not be reached, ``fault`` says so. ``is_failing``: that, or units that are held back, goes on
    to fail. It is looked at again in ``again_in`` seconds. ``seen_due_at`` is the ``due_at`` that was read with the
    amphorae: one set since then is kept.
    """
    values = {
        "observed_generation": generation,
        "attempted_generation": generation,
        "fault": asdict(fault) if fault else None,
        "due_at": _unless_set_since(seen_due_at, now() + again_in if again_in is not None else null()),
        "failing_since": _FAILING_SINCE if is_failing else None,
    }
    mine = update(schema.load_balancer).where(_lb.id == loadbalancer_id)
    active = conn.execute(
        mine.where(_lb.generation == generation, _lb.deleted_generation.is_(None)).values(
            **values, provisioning_status=ProvisioningStatus.ACTIVE
        )
    )
    if not active.rowcount:
        conn.execute(mine.values(values))
    return not active.rowcount


def _unless_set_since(seen_due_at: float | None, due_at: Any) -> Any:
    """A new ``due_at``, but where someone asked for another look after the tree was read."""
    return case((_lb.due_at.is_not_distinct_from(seen_due_at), due_at), else_=_lb.due_at)


def commit_wait(
    conn: Connection, loadbalancer_id: str, generation: int, seconds: float, fault: Fault | None = None
) -> None:
    """Come back in ``seconds``; the status stays as it is, and so does what earlier attempts failed for, but for a
    new ``fault``.
    """
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            attempted_generation=generation,
            due_at=now() + seconds,
            fault=asdict(fault) if fault else _lb.fault,
        )
    )


def commit_failure(
    conn: Connection,
    loadbalancer_id: str,
    generation: int,
    fault: Fault,
    *,
    shown: ProvisioningStatus | None,
    retry_in: float,
) -> None:
    """An attempt failed. ``shown`` is what it shows if nothing newer was accepted; retries go on either way.

    ACTIVE says that all of ``generation`` is served though, None that the status stays. An ERROR shown already stays
    until an attempt succeeds or a new change is accepted. A load balancer that is gone stays gone.
    """
    last = and_(_lb.generation == generation, _lb.provisioning_status != ProvisioningStatus.DELETED)
    is_served = shown is ProvisioningStatus.ACTIVE
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            attempted_generation=generation,
            due_at=now() + retry_in,
            failing_since=_FAILING_SINCE,
            fault=asdict(fault),
            observed_generation=generation if is_served else _lb.observed_generation,
            provisioning_status=case((last, shown), else_=_lb.provisioning_status)
            if shown
            else _lb.provisioning_status,
        )
    )


def failing_for(conn: Connection, loadbalancer_id: str) -> float:
    """Seconds since the first of the failures in a row, 0 where the last attempt went well."""
    seconds = conn.execute(
        select(now() - _lb.failing_since).where(_lb.id == loadbalancer_id, _lb.failing_since.is_not(None))
    ).scalar_one_or_none()
    return float(seconds or 0.0)


def commit_deleted(conn: Connection, loadbalancer_id: str, seen_due_at: float | None = None) -> None:
    """All that the load balancer had is gone: its rows too, but for its own, which housekeeping purges later.

    ``seen_due_at`` as in :func:`commit_converged`.
    """
    children = (schema.TABLES[resource] for resource in reversed(CHILDREN))
    for table in (*children, schema.listener_statistics):
        conn.execute(delete(table).where(table.c.loadbalancer_id == loadbalancer_id))
    conn.execute(
        update(schema.load_balancer)
        .where(_lb.id == loadbalancer_id)
        .values(
            provisioning_status=ProvisioningStatus.DELETED,
            operating_status=OperatingStatus.OFFLINE,
            observed_generation=_lb.generation,
            attempted_generation=_lb.generation,
            due_at=_unless_set_since(seen_due_at, null()),
            failing_since=None,
            fault=None,
        )
    )


def change_vip(conn: Connection, loadbalancer: LoadBalancer, values: Mapping[str, Any]) -> None:
    """Record what became of a load balancer's VIP, as it was when it was read: its port, its security group."""
    conn.execute(update(schema.load_balancer).where(_lb.id == loadbalancer.id).values(values))
    if values.get("vip_port_id", loadbalancer.vip_port_id) != loadbalancer.vip_port_id:
        its = update(schema.amphora).where(schema.amphora.c.loadbalancer_id == loadbalancer.id)
        conn.execute(its.values(ha_port_id=values["vip_port_id"]))
