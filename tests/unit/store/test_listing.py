"""Pages of lists: how the database finds them, and that none is missed or shown twice."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert
from store_stand import Stand

from tavia.model.resources import CHILDREN, RESOURCES, Amphora, LoadBalancer, Member
from tavia.store import listing, reading, schema
from tavia.store.database import Database
from tavia.store.listing import Listing
from tavia.store.rows import to_row

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # the words of its EXPLAIN


def plans(database: Database, work: Any) -> list[str]:
    """How SQLite carries out each statement of ``work``."""
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    with database.read() as conn:
        event.listen(conn, "before_cursor_execute", note)
        work(conn)
        event.remove(conn, "before_cursor_execute", note)
        return [
            "; ".join(row.detail for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
            for statement, parameters in seen
        ]


@on_sqlite
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.table)
def test_a_page_is_read_along_an_index_wherever_it_begins(stand: Stand, resource: type[Any]) -> None:
    others: dict[type[Any], Any] = {
        LoadBalancer: stand.loadbalancer,
        Amphora: Amphora(id=str(uuid.uuid4()), created_at=stand.loadbalancer.created_at),
    }
    row = others.get(resource) or stand.row(resource)
    if resource is not LoadBalancer:
        stand.execute(insert(schema.TABLES[resource]).values(to_row(row)))
    column = schema.TABLES[resource].c
    for scope in ((), (column.project_id == "p",)) if "project_id" in column else ((),):
        for more in ({}, {"marker": row.id}, {"marker": row.id, "backwards": True}):
            wanted = Listing(scope=scope, limit=100, **more)
            *_, page = plans(stand.database, lambda conn, wanted=wanted: listing.page(conn, resource, wanted))
            index = f"ix_{resource.table}_{'project' if scope else 'created_at'}"
            assert f"{resource.table} USING INDEX {index}" in page, page
            assert ("created_at>" in page or "created_at<" in page) == ("marker" in more), page


@on_sqlite
@pytest.mark.parametrize("resource", [LoadBalancer, *CHILDREN], ids=lambda r: r.table)
def test_a_projects_quota_is_counted_by_index(stand: Stand, resource: type[Any]) -> None:
    (plan,) = plans(stand.database, lambda conn: reading.count(conn, resource, "p"))
    assert f"SEARCH {resource.table} USING INDEX ix_{resource.table}_project" in plan


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "order", [(), (("name", False),), (("name", True), ("created_at", True)), (("monitor_port", True),)]
)
def test_pages_hold_each_row_once_also_where_rows_are_equal(
    stand: Stand, order: tuple[tuple[str, bool], ...], backwards: bool
) -> None:
    first = datetime(2026, 1, 1)
    rows = [
        stand.row(Member, created_at=first + timedelta(seconds=n // 3), name=f"m{n % 2}", monitor_port=n % 3 or None)
        for n in range(12)
    ]
    stand.execute(insert(schema.member).values([to_row(row) for row in rows]))
    found: list[str] = []
    with stand.database.read() as conn:
        whole = [row.id for row in listing.page(conn, Member, Listing(order=order))[0]]
        while len(found) < len(rows):
            marker = (found[0] if backwards else found[-1]) if found else None
            page, _ = listing.page(conn, Member, Listing(order=order, limit=5, marker=marker, backwards=backwards))
            assert page
            ids = [row.id for row in page]
            found = ids + found if backwards else found + ids
    assert found == whole
