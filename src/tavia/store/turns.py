"""Turns: transactions that check the same thing before they write go one after the other.

Two that count a project's members at once would both find room for the last one. On MariaDB each first writes the row
of what it is about, so the second waits for the first; on Galera, where nodes know nothing of each other's locks,
certification refuses one of the two. SQLite has one writer at a time anyway.
"""

from __future__ import annotations

from sqlalchemy import Connection

from tavia.store import schema
from tavia.store.upsert import upsert


def take(conn: Connection, name: str) -> None:
    """Wait for one's turn at ``name`` (255 characters at most); it lasts until the transaction ends."""
    if conn.dialect.name != "sqlite":
        upsert(conn, schema.turn, [{"name": name, "taken": 1}], lambda _: {"taken": schema.turn.c.taken + 1})
