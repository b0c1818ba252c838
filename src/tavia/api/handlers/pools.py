"""Pools."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import falcon
from sqlalchemy import Connection, Select, select

from tavia.api import quotas, rules, schemas
from tavia.api.errors import ApiError, validation_failure
from tavia.api.graph import Graph
from tavia.api.handlers.common import Backend, ChildWriter, Related, in_use, parent
from tavia.api.views import ids as references
from tavia.model.resources import HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.store import intents, reading, schema


class Pools(ChildWriter):
    """/pools"""

    resource = Pool
    paths = {"/pools": None, "/pools/{pool_id}": "one"}
    filters = {
        "healthmonitor_id": lambda text: schema.pool.c.id.in_(
            select(schema.health_monitor.c.pool_id).where(schema.health_monitor.c.id == text)
        )
    }

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.post_body = schemas.pool_post()
        self.put_body = schemas.pool_put()

    def related(self, conn: Connection, rows: Sequence[Any], ids: Select[tuple[str]]) -> Related:
        """Its load balancer, the listeners that use it, its members and monitor."""
        listeners = reading.ids_by(conn, Listener, "default_pool_id", ids)
        members = reading.ids_by(conn, Member, "pool_id", ids)
        monitors = reading.ids_by(conn, HealthMonitor, "pool_id", ids)
        return {
            row.id: {
                "loadbalancers": references([row.loadbalancer_id]),
                "listeners": references(listeners.get(row.id, ())),
                "members": references(members.get(row.id, ())),
                "healthmonitor_id": monitors.get(row.id, [None])[-1],
            }
            for row in rows
        }

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """On a load balancer, or on a listener as its default pool."""
        listener_id: str | None = body.get("listener_id")
        loadbalancer_id = self._loadbalancer_id(req, body.get("loadbalancer_id"), listener_id)
        seen = self.backend.vips.seen_by(req)
        for member in body.get("members", ()):
            self.backend.vips.check_member_subnet(member, seen)

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            owner = reading.get(conn, LoadBalancer, loadbalancer_id)
            graph = Graph(owner.id, owner.project_id, self.backend.conf)
            pool = graph.add_pool(body)
            if listener_id is not None:
                self._check_listener(conn, listener_id, pool)
            quotas.check(conn, self.backend.conf, pool.project_id, graph.rows)
            graph.insert(conn, generation)
            if listener_id is not None:
                intents.change(conn, Listener, [listener_id], generation, default_pool_id=pool.id)
            return self.show(conn, pool)

        return self.backend.changes.change_below(loadbalancer_id, work)

    def _loadbalancer_id(self, req: falcon.Request, given: str | None, listener_id: str | None) -> str:
        if listener_id is None:
            if given is None:
                raise validation_failure("Must provide at least one of: loadbalancer_id, listener_id")
            return str(parent(self.backend, req, LoadBalancer, given).id)
        found: str = parent(self.backend, req, Listener, listener_id).loadbalancer_id
        if given not in (None, found):
            raise validation_failure(f"Listener {listener_id} is not on load balancer {given}.")
        return found

    def _check_listener(self, conn: Connection, listener_id: str, pool: Pool) -> None:
        listener = in_use(conn, Listener, listener_id, pool.loadbalancer_id)
        if listener.default_pool_id is not None:
            raise ApiError(409, f"Listener {listener_id} already has a default pool {listener.default_pool_id}.")
        rules.default_pool(listener, pool)

    def settled(self, conn: Connection, old: Pool, new: Pool) -> Pool:
        """Its session persistence is sound."""
        persistence = rules.merged_persistence(old.session_persistence, new.session_persistence)
        return rules.pool(dataclasses.replace(new, session_persistence=persistence))

    def touch(self, conn: Connection, row: Pool, generation: int) -> None:
        """The listeners that use it."""
        intents.touch_listeners_of(conn, [row.id], generation)

    def take_down(self, conn: Connection, row: Pool, generation: int) -> None:
        """No listener has it as its default any more."""
        intents.forget_default_pool(conn, row.id, generation)
