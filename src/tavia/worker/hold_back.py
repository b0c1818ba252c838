"""Which units are held back at their last applied form when HAProxy refuses the configuration. Pure.

A unit is a listener, or a pool with its members and health monitor. Its form is kept in the row (``applied_form``)
each time it is applied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from tavia.model.resources import Configured, HealthMonitor, Listener, Member, Pool
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Tree

NOT_IN_A_FORM = frozenset(
    {
        "created_at",
        "updated_at",
        "provisioning_status",
        "operating_status",
        "fault",
        "changed_generation",
        "deleted_generation",
        "applied_form",
    }
)
"""Columns that do not shape a configuration."""

Form = dict[str, Any]
C = TypeVar("C", bound=Configured)


def forms(tree: Tree) -> dict[str, Form]:
    """The form of every unit, by its id."""
    found: dict[str, Form] = {listener.id: {"listener": _columns(listener)} for listener in tree.listeners}
    for pool in tree.pools:
        monitor = tree.monitor_of(pool.id)
        found[pool.id] = {
            "pool": _columns(pool),
            "members": [_columns(member) for member in tree.members_of(pool.id)],
            "healthmonitors": [_columns(monitor)] if monitor else [],
        }
    return found


def changed_units(tree: Tree) -> list[str]:
    """The units whose form is not the one applied last, newest change first."""
    now = forms(tree)
    units: list[Listener | Pool] = [*tree.listeners, *tree.pools]
    differing = [unit for unit in units if now[unit.id] != unit.applied_form]
    return [unit.id for unit in sorted(differing, key=lambda unit: -_newest_change(tree, unit))]


def held_back(tree: Tree, unit_ids: Collection[str]) -> Tree:
    """The tree with these units at their last applied form; one that was never applied is left out.

    A member or monitor that was deleted since does not come back: leaving it out is nothing that HAProxy refuses.
    """
    if not unit_ids:
        return tree
    units: list[Listener | Pool] = [*tree.listeners, *tree.pools]
    former = [unit.applied_form for unit in units if unit.id in unit_ids and unit.applied_form]

    rows: tuple[Configured, ...] = (*tree.listeners, *tree.pools, *tree.members, *tree.healthmonitors)
    standing = {row.id for row in rows}

    def revived(resource: type[C], key: str) -> Iterable[C]:
        for form in former:
            columns = form.get(key, [])
            for entry in columns if isinstance(columns, list) else [columns]:
                if entry["id"] in standing:
                    yield resource(**entry, created_at=tree.loadbalancer.created_at)

    pools = [*(p for p in tree.pools if p.id not in unit_ids), *revived(Pool, "pool")]
    listeners = [*(u for u in tree.listeners if u.id not in unit_ids), *revived(Listener, "listener")]
    pool_ids = {pool.id for pool in pools}
    return dataclasses.replace(
        tree,
        listeners=tuple(_without_missing_pool(listener, pool_ids) for listener in listeners),
        pools=tuple(pools),
        members=(*(m for m in tree.members if m.pool_id not in unit_ids), *revived(Member, "members")),
        healthmonitors=(
            *(h for h in tree.healthmonitors if h.pool_id not in unit_ids),
            *revived(HealthMonitor, "healthmonitors"),
        ),
    )


def held_together(tree: Tree, unit_id: str) -> list[str]:
    """A unit to hold back, and the listeners that would lose their pool with it: they keep the one they have."""
    new_pools = {pool.id for pool in tree.pools if pool.applied_form is None}
    if unit_id not in new_pools:
        return [unit_id]
    switching = (listener for listener in tree.listeners if listener.default_pool_id == unit_id)
    return [unit_id, *(each.id for each in switching if _applied_pool(each) not in (None, unit_id))]


def _applied_pool(listener: Listener) -> str | None:
    form = listener.applied_form
    pool_id: str | None = form["listener"]["default_pool_id"] if form else None
    return pool_id


def refused_rows(tree: Tree, unit_id: str) -> list[str]:
    """The ids of a held-back unit's rows whose change did not come to be: the unit's own and what is below it."""
    below: tuple[Configured, ...] = (
        *tree.members_of(unit_id),
        *(h for h in tree.healthmonitors if h.pool_id == unit_id),
    )
    return [unit_id, *(row.id for row in below if row.provisioning_status is not ProvisioningStatus.ACTIVE)]


def _columns(row: Configured) -> Form:
    return {f.name: getattr(row, f.name) for f in dataclasses.fields(row) if f.name not in NOT_IN_A_FORM}


def _newest_change(tree: Tree, unit: Listener | Pool) -> int:
    below: tuple[Configured, ...] = (*tree.members_of(unit.id), *tree.healthmonitors)
    return max(
        row.changed_generation for row in (unit, *below) if row is unit or getattr(row, "pool_id", "") == unit.id
    )


def _without_missing_pool(listener: Listener, pool_ids: Collection[str]) -> Listener:
    if listener.default_pool_id in pool_ids:
        return listener
    return dataclasses.replace(listener, default_pool_id=None)
