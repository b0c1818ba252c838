"""Lists, a page at a time: filters, tags, order, and where a page begins, in one SQL statement.

The API's ``lists`` module makes a :class:`Listing` out of a request's parameters. Pages are found by the values of
the marker's row ("keyset"), so they stay right while rows come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Boolean, ColumnElement, Connection, Select, Table, and_, case, false, not_, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from tavia.store import schema
from tavia.store.reading import visible
from tavia.store.rows import from_row

R = TypeVar("R")


class NoSuchMarker(LookupError):
    """The row that a page should begin at is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a list asks for.

    ``scope`` says what the asker may know of at all, the marker's row too. ``order`` are (column, descending) pairs;
    created_at and id are appended. ``backwards`` asks for the page that ends before the marker. ``limit`` None is
    everything.
    """

    scope: Sequence[ColumnElement[bool]] = ()
    conditions: Sequence[ColumnElement[bool]] = ()
    order: Sequence[tuple[str, bool]] = ()
    marker: str | None = None
    limit: int | None = None
    backwards: bool = False


def page(conn: Connection, resource: type[R], listing: Listing) -> tuple[list[R], Select[tuple[str]]]:
    """The rows of one page in the order asked for, and a SELECT of their ids for queries on what belongs to them.

    Raises NoSuchMarker.
    """
    table = schema.TABLES[resource]
    keys = _sort_keys(table, listing)
    statement = select(table).where(visible(resource), *listing.scope, *listing.conditions)
    if listing.marker is not None:
        statement = statement.where(_beyond(conn, table, keys, table.c.id == listing.marker, *listing.scope))
    statement = statement.order_by(*(key.desc() if descending else key.asc() for key, descending in keys))
    if listing.limit is not None:
        statement = statement.limit(listing.limit)
    rows = [from_row(resource, row) for row in conn.execute(statement).mappings()]
    on_page = statement.subquery()  # MariaDB takes a LIMIT below IN only in a derived table
    return rows[::-1] if listing.backwards else rows, select(on_page.c.id)


def _sort_keys(table: Table, listing: Listing) -> list[tuple[ColumnElement[Any], bool]]:
    names = dict(listing.order)
    order = [*names.items(), *((name, False) for name in ("created_at", "id") if name not in names)]
    keys: list[tuple[ColumnElement[Any], bool]] = []
    for name, descending in order:
        column = table.c[name]
        if column.nullable:
            # Databases differ in where NULLs stand, and no comparison finds them: a key of their own puts them first.
            keys.append((case((column.is_(None), 0), else_=1), descending != listing.backwards))
        keys.append((column, descending != listing.backwards))
    return keys


def _beyond(
    conn: Connection, table: Table, keys: list[tuple[ColumnElement[Any], bool]], *marker: ColumnElement[bool]
) -> ColumnElement[bool]:
    """The rows that come after the marker's in this order: (a > A) or (a = A and b > B) or ...

    Databases begin to read an index at a = A only where they are told that too.
    """
    values = conn.execute(select(*(key for key, _ in keys)).where(*marker)).first()
    if values is None:
        raise NoSuchMarker
    equal: list[ColumnElement[bool]] = []
    beyond: list[ColumnElement[bool]] = []
    for (key, descending), value in zip(keys, values, strict=True):
        if value is None:  # its NULL key already is equal, and so are all NULLs
            continue
        beyond.append(and_(*equal, key < value if descending else key > value))
        equal.append(key == value)
    (first, descending), value = keys[0], values[0]
    return and_(first <= value if descending else first >= value, or_(false(), *beyond))


class _holds(FunctionElement[bool]):  # noqa: N801 - reads as the SQL function it is
    """Whether a JSON list holds a string."""

    type = Boolean()
    inherit_cache = True
    name = "tavia_holds"


@compiles(_holds, "sqlite")
def _sqlite_holds(element: _holds, compiler: Any, **kw: Any) -> str:
    column, tag = element.clauses
    values, wanted = compiler.process(column, **kw), compiler.process(tag, **kw)
    return f"EXISTS (SELECT 1 FROM json_each({values}) WHERE value = {wanted})"  # noqa: S608 - both are compiled SQL


@compiles(_holds, "mysql", "mariadb")
def _mysql_holds(element: _holds, compiler: Any, **kw: Any) -> str:
    column, tag = element.clauses
    return f"JSON_CONTAINS({compiler.process(column, **kw)}, JSON_QUOTE({compiler.process(tag, **kw)}))"


def tagged(
    resource: type[Any],
    *,
    all_of: Sequence[str] = (),
    any_of: Sequence[str] = (),
    not_all_of: Sequence[str] = (),
    none_of: Sequence[str] = (),
) -> list[ColumnElement[bool]]:
    """Conditions on an object's tags; an empty sequence asks for nothing."""
    column = schema.TABLES[resource].c.tags

    def held(tags: Sequence[str]) -> list[ColumnElement[bool]]:
        return [_holds(column, tag) for tag in tags]

    conditions: list[ColumnElement[bool]] = held(all_of)
    if any_of:
        conditions.append(or_(*held(any_of)))
    if not_all_of:
        conditions.append(not_(and_(*held(not_all_of))))
    if none_of:
        conditions.append(not_(or_(*held(none_of))))
    return conditions
