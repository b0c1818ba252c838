"""The table ``service``: which processes of the controllers run where, and whether they are configured alike.

Each process renews its row (:mod:`tavia.process.presence`), ``tavia service list`` shows them, housekeeping removes
those of processes that died long ago.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tavia.store import schema
from tavia.store.clock import now

_service = schema.service.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a process says of itself; ``config_group_hashes`` has the groups of octavia.conf that it uses."""

    id: str
    name: str
    host: str
    pid: int
    version: str
    config_hash: str
    config_group_hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Process):
    """A process as its row has it; ``started`` and ``seen`` are the database's clock, ``silent_for`` seconds."""

    started: float
    seen: float
    silent_for: float


def report(conn: Connection, process: Process, uptime: float) -> None:
    """Renew a process's row, or make it (again), ``uptime`` seconds after the process began."""
    said = {name: getattr(process, name) for name in Process.__dataclass_fields__ if name != "id"}
    renewed = conn.execute(update(schema.service).where(_service.id == process.id).values(**said, seen=now()))
    if not renewed.rowcount:
        values = {**said, "id": process.id, "started": now() - uptime, "seen": now()}
        conn.execute(insert(schema.service).values(**values))


def withdraw(conn: Connection, process_id: str) -> None:
    """A process that ended as it should leaves no row."""
    conn.execute(delete(schema.service).where(_service.id == process_id))


def known(conn: Connection) -> list[Known]:
    """All rows, by host and name."""
    statement = select(schema.service, (now() - _service.seen).label("silent_for"))
    rows = conn.execute(statement.order_by(_service.host, _service.name, _service.started)).mappings()
    return [Known(**row) for row in rows]


def purge(conn: Connection, silent_for: float) -> int:
    """Remove the rows of processes that have been silent for so many seconds; returns how many."""
    return conn.execute(delete(schema.service).where(_service.seen <= now() - silent_for)).rowcount


def differing_groups(processes: Sequence[Process]) -> dict[str, list[str]]:
    """By a process's id: the groups in which it is configured otherwise than most others that use them, sorted.

    All processes of a deployment share one octavia.conf, so services of any kind are compared. Where no value has a
    majority, all differ.
    """
    groups = sorted({group for process in processes for group in process.config_group_hashes})
    odd = {group: outsiders({p.id: p.config_group_hashes.get(group) for p in processes}) for group in groups}
    return {p.id: [group for group in groups if p.id in odd[group]] for p in processes}


def outsiders(value_of: Mapping[str, Any]) -> set[str]:
    """Whose value is not that of the majority, more than half; who has None has no say. All, where there is none."""
    values = Counter(value for value in value_of.values() if value is not None)
    usual, count = values.most_common(1)[0] if values else (None, 0)
    has_majority = 2 * count > values.total()
    return {key for key, value in value_of.items() if value is not None and not (has_majority and value == usual)}
