"""All amphorae that there are, for ``tavia amphora list``."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from tavia.model.resources import Amphora
from tavia.store import schema
from tavia.store.reading import visible
from tavia.store.rows import from_row


@dataclass(frozen=True, slots=True)
class Listed:
    """An amphora, the name of its load balancer, and what its agent said of its version (None: nothing yet)."""

    amphora: Amphora
    loadbalancer_name: str | None
    agent_version: str | None


def listed(conn: Connection) -> list[Listed]:
    """Those that are not deleted, load balancer by load balancer."""
    amphora, health, lb = schema.amphora, schema.amphora_health, schema.load_balancer
    statement = (
        select(amphora, lb.c.name.label("loadbalancer_name"), health.c.agent_version)
        .outerjoin(lb, lb.c.id == amphora.c.loadbalancer_id)
        .outerjoin(health, health.c.amphora_id == amphora.c.id)
        .where(visible(Amphora))
        .order_by(lb.c.name, lb.c.id, amphora.c.created_at, amphora.c.id)
    )
    return [
        Listed(from_row(Amphora, row), row["loadbalancer_name"], row["agent_version"])
        for row in conn.execute(statement).mappings()
    ]
