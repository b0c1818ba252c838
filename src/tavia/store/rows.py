"""Rows to the model's dataclasses and back."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, TypeVar, get_origin

from sqlalchemy import RowMapping

from tavia.model.attributes import attributes
from tavia.store.schema import TABLES, without_none

R = TypeVar("R")


_known: dict[type[Any], dict[str, type[StrEnum]]] = {}


def _enumerations(resource: type[Any]) -> dict[str, type[StrEnum]]:
    if resource not in _known:
        _known[resource] = _declared_enumerations(resource)
    return _known[resource]


def _declared_enumerations(resource: type[Any]) -> dict[str, type[StrEnum]]:
    found = {}
    for attribute in attributes(resource):
        python_type = without_none(attribute.type)
        if get_origin(python_type) is None and isinstance(python_type, type) and issubclass(python_type, StrEnum):
            found[attribute.name] = python_type
    return found


def from_row(resource: type[R], row: RowMapping) -> R:
    """A dataclass from a row with all columns of its table (others, of other tables too, are ignored)."""
    enumerations, columns = _enumerations(resource), TABLES[resource].c
    values = {a.name: row[columns[a.name]] for a in attributes(resource)}
    for name, enumeration in enumerations.items():
        if values[name] is not None:
            values[name] = enumeration(values[name])
    return resource(**values)


def to_row(resource: Any) -> dict[str, Any]:
    """Column values of a dataclass."""
    return {f.name: getattr(resource, f.name) for f in dataclasses.fields(resource)}
