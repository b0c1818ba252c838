"""Traffic counters of listeners, one row for each amphora that served them. The health manager writes them.

Counters are absolute, as the amphora reports them, so health managers that hear the same heartbeat write the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, tuple_, update

from tavia.store import schema
from tavia.store.upsert import upsert


def listeners_of(conn: Connection, loadbalancer_ids: Collection[str]) -> set[tuple[str, str]]:
    """The pairs (load balancer, listener) of these load balancers: an amphora may count for its own listeners only."""
    listener = schema.listener.c
    rows = conn.execute(
        select(listener.loadbalancer_id, listener.id).where(listener.loadbalancer_id.in_(loadbalancer_ids))
    )
    return {(row.loadbalancer_id, row.id) for row in rows}


def record_absent(conn: Connection, served: Mapping[str, Collection[str]]) -> None:
    """Listeners that an amphora serves no more have no connections there; ``served`` are its listeners, by its id."""
    its = schema.listener_statistics.c
    active = conn.execute(
        select(its.listener_id, its.amphora_id).where(its.amphora_id.in_(served), its.active_connections > 0)
    )
    absent = sorted(
        (row.listener_id, row.amphora_id) for row in active if row.listener_id not in served[row.amphora_id]
    )
    if absent:
        pairs = tuple_(its.listener_id, its.amphora_id).in_(absent)
        conn.execute(update(schema.listener_statistics).where(pairs).values(active_connections=0))


def record(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write counters in one statement. A row holds the columns of ``listener_statistics``."""
    upsert(conn, schema.listener_statistics, rows, lambda new: {name: new[name] for name in schema.COUNTERS})
