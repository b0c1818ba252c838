"""The form of a unit: what shapes its configuration, as it is kept in its head's row each time it is applied.

JSON::

    {"version": 2, "rows": {"pool": [{columns}], "member": [{columns}, ...]}}

A stored form outlives releases: a column that went is left out when it is read, one that came since has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from tavia.model.resources import CHILDREN, Configured

Form = dict[str, Any]

VERSION = 2
FIRST_KEYS = {"listener": "listener", "pool": "pool", "members": "member", "healthmonitors": "health_monitor"}
"""The first release's forms had no version, and these keys for the tables that there were."""

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


def form(unit: Iterable[Configured]) -> Form:
    """The form of a unit's rows, its head first."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in unit:
        rows.setdefault(row.table, []).append({name: getattr(row, name) for name in _columns(type(row))})
    return {"version": VERSION, "rows": rows}


def current(stored: Form) -> Form | None:
    """A stored form as this release would have written it; None where that cannot be told: as if never applied."""
    tables = stored["rows"] if stored.get("version") == VERSION else _first(stored)
    rows: dict[str, list[dict[str, Any]]] = {}
    for resource in CHILDREN:
        if found := tables.get(resource.table):
            defaults = _defaults(resource)
            filled = [{n: entry.get(n, defaults.get(n, _MISSING)) for n in _columns(resource)} for entry in found]
            if any(_MISSING in entry.values() for entry in filled):
                return None
            rows[resource.table] = filled
    return {"version": VERSION, "rows": rows}


def rows_of(stored: Form, created_at: datetime) -> Iterator[Configured]:
    """The rows of a stored form, which does not tell when they were made."""
    found = (current(stored) or {"rows": {}})["rows"]
    for resource in CHILDREN:
        for entry in found.get(resource.table, ()):
            yield resource(**entry, created_at=created_at)


_MISSING = object()


def _columns(resource: type[Configured]) -> list[str]:
    return [f.name for f in dataclasses.fields(resource) if f.name not in NOT_IN_A_FORM]


def _defaults(resource: type[Configured]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for f in dataclasses.fields(resource):
        if f.default_factory is not dataclasses.MISSING:
            found[f.name] = f.default_factory()
        elif f.default is not dataclasses.MISSING:
            found[f.name] = f.default
    return found


def _first(stored: Form) -> dict[str, list[dict[str, Any]]]:
    return {
        table: found if isinstance(found, list) else [found]
        for key, table in FIRST_KEYS.items()
        if (found := stored.get(key))
    }
