"""How much a project may have: the limits of ``[quotas]``, checked in the transaction that adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from oslo_config import cfg
from sqlalchemy import Connection

from tavia.api.errors import ApiError
from tavia.model.resources import Configured
from tavia.store import reading, turns


def check(conn: Connection, conf: cfg.ConfigOpts, project_id: str, added: Iterable[Configured]) -> None:
    """Refuse rows that would take the project over a limit. Call it before they are inserted. Raises ApiError."""
    limited = {
        resource: (number, conf.quotas[f"default_{resource.table}_quota"])
        for resource, number in Counter(type(row) for row in added).items()
    }
    if any(limit >= 0 for _, limit in limited.values()):
        turns.take(conn, f"quota of {project_id}")
    for resource, (number, limit) in limited.items():
        if limit >= 0 and reading.count(conn, resource, project_id) + number > limit:
            raise ApiError(403, f"Quota has been met for resources: {resource.names.title}")
