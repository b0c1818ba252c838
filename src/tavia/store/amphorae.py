"""The rows of amphorae: made before the server, changed as it comes up and goes, listed for operators."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, insert, select, update

from tavia.model.resources import Amphora
from tavia.model.statuses import AmphoraStatus
from tavia.store import schema, turns
from tavia.store.clock import now
from tavia.store.reading import visible
from tavia.store.rows import from_row, to_row

_amphora = schema.amphora.c


def admit_boots(conn: Connection, amphora_ids: Collection[str], limit: int) -> set[str]:
    """Which of these amphorae may boot, where compute builds at most ``limit`` at a time; their boot begins now.

    One that was let before may again.
    """
    turns.take(conn, "amphorae boot")
    booting = and_(
        _amphora.status == AmphoraStatus.BOOTING,
        _amphora.boot_started_at.is_not(None),
        _amphora.active_at.is_(None),
        _amphora.replace_generation.is_(None),  # such a one goes when its successor is up
    )
    under_way = set(conn.execute(select(_amphora.id).where(booting)).scalars())
    fresh = [each for each in amphora_ids if each not in under_way][: max(0, limit - len(under_way))]
    if fresh:
        conn.execute(update(schema.amphora).where(_amphora.id.in_(fresh)).values(boot_started_at=now()))
    return {*fresh, *(each for each in amphora_ids if each in under_way)}


def add(conn: Connection, amphora: Amphora) -> None:
    """Insert an amphora's row: before anything is made for it."""
    conn.execute(insert(schema.amphora).values(to_row(amphora)))


def change(conn: Connection, amphora: Amphora, values: Mapping[str, Any], moment: str | None = None) -> None:
    """Record what became of an amphora, as it was when it was read; ``moment`` is the column that gets the time.

    An ``applied_hash`` that someone took back since then (asking for another push) stays so.
    """
    changes = dict(values)
    if "applied_hash" in changes:
        is_as_read = _amphora.applied_hash.is_not_distinct_from(amphora.applied_hash)
        changes["applied_hash"] = case((is_as_read, changes["applied_hash"]), else_=_amphora.applied_hash)
    if moment:
        changes[moment] = now()
    conn.execute(update(schema.amphora).where(_amphora.id == amphora.id).values(**changes))


@dataclass(frozen=True, slots=True)
class Listed:
    """An amphora, name and image tag of its load balancer, and what its agent said of its version (None: nothing)."""

    amphora: Amphora
    loadbalancer_name: str | None
    image_tag: str | None
    agent_version: str | None


def listed(conn: Connection) -> list[Listed]:
    """Those that are not deleted, load balancer by load balancer."""
    amphora, health, lb = schema.amphora, schema.amphora_health, schema.load_balancer
    statement = (
        select(amphora, lb.c.name.label("loadbalancer_name"), lb.c.image_tag, health.c.agent_version)
        .outerjoin(lb, lb.c.id == amphora.c.loadbalancer_id)
        .outerjoin(health, health.c.amphora_id == amphora.c.id)
        .where(visible(Amphora))
        .order_by(lb.c.name, lb.c.id, amphora.c.created_at, amphora.c.id)
    )
    return [
        Listed(from_row(Amphora, row), row["loadbalancer_name"], row["image_tag"], row["agent_version"])
        for row in conn.execute(statement).mappings()
    ]
