"""Insert rows or update those that exist: one statement for many rows, on SQLite and on MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import mysql, sqlite


def upsert(
    conn: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    values: Callable[[Any], Mapping[str, Any]],
) -> None:
    """Insert ``rows``; for one whose primary key exists, set ``values(the row that was to be inserted)``.

    MariaDB assigns them in their order, and a later one sees what an earlier one has set. Rows are written in the order
    of their primary keys: two writers that lock the same rows in different orders wait for each other.
    """
    keys = [column.name for column in table.primary_key]
    rows = sorted(rows, key=lambda row: [row[key] for key in keys])
    if conn.dialect.name == "sqlite":
        on_sqlite = sqlite.insert(table)
        statement: Any = on_sqlite.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=dict(values(on_sqlite.excluded))
        )
    else:
        on_mariadb = mysql.insert(table)
        statement = on_mariadb.on_duplicate_key_update(list(values(on_mariadb.inserted).items()))
    if rows:
        conn.execute(statement, [dict(row) for row in rows])
