"""Listeners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon
from sqlalchemy import Connection, Select

from tavia.api import quotas, rules, schemas
from tavia.api.access import access_of
from tavia.api.graph import Graph
from tavia.api.handlers.common import Backend, ChildWriter, Related, in_use, parent
from tavia.api.views import ids as references
from tavia.model.resources import Listener, LoadBalancer, Pool
from tavia.store import reading


class Listeners(ChildWriter):
    """/listeners"""

    resource = Listener
    paths = {
        "/listeners": None,
        "/listeners/{listener_id}": "one",
        "/listeners/{listener_id}/stats": "stats",
    }

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.post_body = schemas.listener_post(schemas.timeouts(backend.conf))
        self.put_body = schemas.listener_put(schemas.timeouts(backend.conf))

    def related(self, conn: Connection, rows: Sequence[Any], ids: Select[tuple[str]]) -> Related:
        """Its load balancer."""
        return {row.id: {"loadbalancers": references([row.loadbalancer_id])} for row in rows}

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """A port of the VIP that no other listener has."""
        loadbalancer_id: str = parent(self.backend, req, LoadBalancer, body["loadbalancer_id"]).id
        seen = self.backend.vips.seen_by(req)
        for member in body.get("default_pool", {}).get("members", ()):
            self.backend.vips.check_member_subnet(member, seen)

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            owner = reading.get(conn, LoadBalancer, loadbalancer_id)
            graph = Graph(owner.id, owner.project_id, self.backend.conf, owner.vips)
            listener = graph.add_listener(body)
            if not graph.of(Pool):
                self._check_default_pool(conn, listener)
            if reading.listener_at(conn, loadbalancer_id, *rules.place(listener)):
                raise rules.duplicate_listener(listener.protocol_port)
            quotas.check(conn, self.backend.conf, listener.project_id, graph.rows)
            graph.insert(conn, generation)
            return self.show(conn, listener)

        return self.backend.changes.change_below(loadbalancer_id, work)

    def settled(self, conn: Connection, old: Listener, new: Listener) -> Listener:
        """Its headers, CIDRs and default pool fit."""
        if new.default_pool_id != old.default_pool_id:
            self._check_default_pool(conn, new)
        return rules.listener(new, reading.get(conn, LoadBalancer, new.loadbalancer_id).vips)

    def _check_default_pool(self, conn: Connection, listener: Listener) -> None:
        if listener.default_pool_id is not None:
            rules.default_pool(listener, in_use(conn, Pool, listener.default_pool_id, listener.loadbalancer_id))

    def on_get_stats(self, req: falcon.Request, resp: falcon.Response, listener_id: str) -> None:
        """The sums over its amphorae."""
        with self.backend.database.read() as conn:
            self.reach(conn, access_of(req), listener_id)
            resp.media = {
                "stats": reading.statistics_sum(conn, "listener_id", listener_id, self.backend.heartbeat_timeout)
            }
