"""Which units are held back at their last applied form when HAProxy refuses the configuration. Pure.

A unit is what the model declares as one: a listener, or a pool with its members and health monitor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from tavia.model.attributes import References, attributes
from tavia.model.forms import current, rows_of
from tavia.model.resources import Configured, Unit
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Rows, Tree

C = TypeVar("C", bound=Configured)


def changed_units(tree: Tree) -> list[str]:
    """The units whose form is not the one applied last, newest change first."""
    forms = tree.rows.forms
    differing = [head for head in tree.rows.units if forms[head.id] != _applied(head)]
    return [head.id for head in sorted(differing, key=lambda head: -_newest_change(tree, head))]


def held_back(tree: Tree, unit_ids: Collection[str]) -> Tree:
    """The tree with these units at their last applied form; one that was never applied is left out.

    What was deleted below it since does not come back: leaving it out is nothing that HAProxy refuses.
    """
    if not unit_ids:
        return tree
    held = [head for head in tree.rows.units if head.id in unit_ids]
    away = {row.id for head in held for row in tree.rows.unit(head)}
    standing = {row.id for row in tree.rows}
    former = [row for head in held for row in _applied_rows(tree, head) if row.id in standing]
    rows = [*(row for row in tree.rows if row.id not in away), *former]
    there = {row.id for row in rows}
    return dataclasses.replace(tree, rows=Rows(_without_references_to_others(row, there) for row in rows))


def held_together(tree: Tree, unit_id: str) -> list[str]:
    """A unit to hold back, and those that would lose what they use with it: they keep what they used before."""
    new_units = {head.id for head in tree.rows.units if head.applied_form is None}
    if unit_id not in new_units:
        return [unit_id]
    return [unit_id, *(head.id for head in tree.rows.units if _turns_to(tree, head, unit_id))]


def refused_rows(tree: Tree, unit_id: str) -> list[str]:
    """The ids of a held-back unit's rows whose change did not come to be: the unit's own and what is below it."""
    head = next(head for head in tree.rows.units if head.id == unit_id)
    _, *below = tree.rows.unit(head)
    return [unit_id, *(row.id for row in below if row.provisioning_status is not ProvisioningStatus.ACTIVE)]


def _applied(head: Unit) -> object:
    return current(head.applied_form) if head.applied_form else None


def _applied_rows(tree: Tree, head: Unit) -> list[Configured]:
    return list(rows_of(head.applied_form, tree.loadbalancer.created_at)) if head.applied_form else []


def _newest_change(tree: Tree, head: Unit) -> int:
    return max(row.changed_generation for row in tree.rows.unit(head))


def _turns_to(tree: Tree, head: Unit, unit_id: str) -> bool:
    """Whether a row of this unit uses another one that used something else when it was applied last."""
    before = {row.id: row for row in _applied_rows(tree, head)}
    return any(
        getattr(row, name) == unit_id and getattr(before.get(row.id), name, None) not in (None, unit_id)
        for row in tree.rows.unit(head)
        for name in _uses(type(row))
    )


def _uses(resource: type[Configured]) -> Iterator[str]:
    """The attributes by which a resource uses another that it does not stand below."""
    for attribute in attributes(resource):
        if attribute.marker(References) and attribute.name not in (resource.parent, "loadbalancer_id"):
            yield attribute.name


def _without_references_to_others(row: C, there: Collection[str]) -> C:
    missing = [name for name in _uses(type(row)) if getattr(row, name) is not None and getattr(row, name) not in there]
    without: dict[str, Any] = dict.fromkeys(missing)
    return dataclasses.replace(row, **without) if missing else row
