"""Traffic counters of listeners, one row for each amphora that served them. The health manager writes them.

Counters are absolute, as the amphora reports them, so health managers that hear the same heartbeat write the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from tavia.store import schema
from tavia.store.upsert import upsert


def listeners_of(conn: Connection, loadbalancer_ids: Collection[str]) -> set[tuple[str, str]]:
    """The pairs (load balancer, listener) of these load balancers: an amphora may count for its own listeners only."""
    listener = schema.listener.c
    rows = conn.execute(
        select(listener.loadbalancer_id, listener.id).where(listener.loadbalancer_id.in_(loadbalancer_ids))
    )
    return {(row.loadbalancer_id, row.id) for row in rows}


def record(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write counters in one statement. A row holds the columns of ``listener_statistics``."""
    upsert(conn, schema.listener_statistics, rows, lambda new: {name: new[name] for name in schema.COUNTERS})
