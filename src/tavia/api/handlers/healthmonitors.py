"""Health monitors, one a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon
from sqlalchemy import Connection, Select

from tavia.api import quotas, rules, schemas
from tavia.api.changes import touch_pools
from tavia.api.errors import ApiError
from tavia.api.graph import Graph
from tavia.api.handlers.common import Backend, ChildWriter, Related, in_use, parent
from tavia.api.views import ids as references
from tavia.model.resources import HealthMonitor, Pool
from tavia.store import intents, reading


class HealthMonitors(ChildWriter):
    """/healthmonitors"""

    resource = HealthMonitor
    paths = {"/healthmonitors": None, "/healthmonitors/{healthmonitor_id}": "one"}

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.post_body = schemas.post(HealthMonitor)
        self.put_body = schemas.put(HealthMonitor)

    def related(self, conn: Connection, rows: Sequence[Any], ids: Select[tuple[str]]) -> Related:
        """Its pool."""
        return {row.id: {"pools": references([row.pool_id])} for row in rows}

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """The monitor of a pool that has none."""
        pool_id = body["pool_id"]
        owner: str = parent(self.backend, req, Pool, pool_id).loadbalancer_id

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            pool = in_use(conn, Pool, pool_id, owner)
            if reading.has_monitor(conn, pool_id):
                raise ApiError(409, f"Pool {pool_id} already has a health monitor")
            graph = Graph(owner, pool.project_id, self.backend.conf)
            monitor = graph.add_healthmonitor(pool, body)
            quotas.check(conn, self.backend.conf, monitor.project_id, graph.rows)
            graph.insert(conn, generation)
            touch_pools(conn, [pool_id], generation)
            return self.show(conn, monitor)

        return self.backend.changes.change_below(owner, work)

    def settled(self, conn: Connection, old: HealthMonitor, new: HealthMonitor) -> HealthMonitor:
        """What is for HTTP fits its type."""
        return rules.healthmonitor(new)

    def touch(self, conn: Connection, row: HealthMonitor, generation: int) -> None:
        """Its pool and the listeners that use that."""
        touch_pools(conn, [row.pool_id], generation)

    def take_down(self, conn: Connection, row: HealthMonitor, generation: int) -> None:
        """Nothing checks the members any more, unless another monitor came while this one was going."""
        if not reading.has_monitor(conn, row.pool_id):
            intents.unmonitor(conn, row.pool_id)
