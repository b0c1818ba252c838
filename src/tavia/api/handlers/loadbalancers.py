"""Load balancers, alone or with all that stands below them in one POST."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import falcon
from sqlalchemy import Connection, Select

from tavia.api import quotas, rules, schemas
from tavia.api.access import access_of
from tavia.api.errors import ApiError, validation_failure
from tavia.api.graph import Graph
from tavia.api.handlers.common import Backend, Related, Writer, flag
from tavia.api.rbac import API
from tavia.api.views import ids as references
from tavia.api.views import status_tree, view
from tavia.api.vips import Vip
from tavia.config.controller_worker import boots_with
from tavia.model.resources import OUR_PROVIDERS, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.statuses import Topology
from tavia.model.tree import Rows
from tavia.store import intents, reading, turns
from tavia.store.clock import utcnow
from tavia.store.trees import read_tree


class LoadBalancers(Writer):
    """/loadbalancers"""

    resource = LoadBalancer
    paths = {
        "/loadbalancers": None,
        "/loadbalancers/{loadbalancer_id}": "one",
        "/loadbalancers/{loadbalancer_id}/stats": "stats",
        "/loadbalancers/{loadbalancer_id}/status": "status",
        "/loadbalancers/{loadbalancer_id}/statuses": "status",
        "/loadbalancers/{loadbalancer_id}/failover": "failover",
    }

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.post_body = schemas.loadbalancer_post(schemas.timeouts(backend.conf))
        self.put_body = schemas.put(LoadBalancer)

    def related(self, conn: Connection, rows: Sequence[Any], ids: Select[tuple[str]]) -> Related:
        """The ids of listeners and pools."""
        listeners = reading.ids_by(conn, Listener, "loadbalancer_id", ids)
        pools = reading.ids_by(conn, Pool, "loadbalancer_id", ids)
        return {
            row.id: {"listeners": references(listeners.get(row.id, ())), "pools": references(pools.get(row.id, ()))}
            for row in rows
        }

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """A VIP, then everything in one transaction, at generation 1. The answer shows the whole tree."""
        access = access_of(req)
        project_id = access.project_of_new(body.get("project_id"))
        if "vip_sg_ids" in body:
            access.check(project_id, f"{API}loadbalancer:post:vip_sg_ids")
        loadbalancer_id = str(uuid.uuid4())
        own = {name: value for name, value in body.items() if name not in ("listeners", "pools")}
        own["project_id"] = project_id
        own["provider"] = self._provider(body.get("provider"))
        seen = self.backend.vips.seen_by(req)
        with self.backend.vips.of(loadbalancer_id, body | {"project_id": project_id}, seen) as vip:
            row = self._row(loadbalancer_id, own, vip)
            graph = Graph(row.id, row.project_id, self.backend.conf, row.vips)
            graph.add_tree(body.get("listeners", []), body.get("pools", []))
            for member in graph.of(Member):
                self.backend.vips.check_member_subnet({"subnet_id": member.subnet_id}, seen)
            self.backend.changes.create(lambda conn: self._insert(conn, row, graph))
        return _whole(row, graph)

    def _row(self, loadbalancer_id: str, own: Mapping[str, Any], vip: Vip) -> LoadBalancer:
        return LoadBalancer(
            **(dict(own) | dataclasses.asdict(vip) | boots_with(self.backend.conf)),
            id=loadbalancer_id,
            topology=Topology(self.backend.conf.controller_worker.loadbalancer_topology),
            changed_generation=1,
            created_at=utcnow(),
        )

    def _insert(self, conn: Connection, row: LoadBalancer, graph: Graph) -> None:
        if not row.vip_port_ours:
            turns.take(conn, f"VIP port {row.vip_port_id}")
        if not row.vip_port_ours and reading.vip_port_in_use(conn, str(row.vip_port_id)):
            raise ApiError(409, f"VIP address already in use: port {row.vip_port_id} is a load balancer's")
        quotas.check(conn, self.backend.conf, row.project_id, [row, *graph.rows])
        intents.create_loadbalancer(conn, row)
        graph.insert(conn, row.generation)

    def _provider(self, wanted: str | None) -> str:
        settings = self.backend.conf.api_settings
        provider = wanted or settings.default_provider_driver
        if provider not in settings.enabled_provider_drivers:
            raise ApiError(400, f"Provider '{provider}' is not enabled.")
        if provider not in OUR_PROVIDERS:
            raise ApiError(501, f"Provider '{provider}' was not found.")
        return str(provider)

    def update(self, req: falcon.Request, object_id: str, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """Change its own attributes."""
        row = self.allowed(req, object_id)
        if "vip_sg_ids" in body:
            access_of(req).check(row.project_id, f"{API}loadbalancer:put:vip_sg_ids")
        self.backend.vips.check_qos_policy(body, self.backend.vips.seen_by(req))

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            old = self.find(conn, object_id)
            values = rules.differences(old, dataclasses.replace(old, **body))
            intents.change(conn, LoadBalancer, [object_id], generation, **values)
            return self.show(conn, self.find(conn, object_id))

        return self.backend.changes.change(object_id, work)

    def delete(self, req: falcon.Request, object_id: str, **parents: str) -> None:
        """Mark it deleted; ``cascade`` takes what stands below it along."""
        cascade = flag(req, "cascade")
        self.allowed(req, object_id)

        def work(conn: Connection, generation: int) -> None:
            if cascade:
                intents.mark_children_deleted(conn, object_id, generation)
            elif reading.has_children(conn, object_id):
                raise validation_failure(f"Cannot delete Load Balancer {object_id} - it has children")

        self.backend.changes.delete(object_id, work)

    def on_get_stats(self, req: falcon.Request, resp: falcon.Response, loadbalancer_id: str) -> None:
        """The sums over its listeners and amphorae."""
        with self.backend.database.read() as conn:
            self.reach(conn, access_of(req), loadbalancer_id)
            resp.media = {
                "stats": reading.statistics_sum(
                    conn, "loadbalancer_id", loadbalancer_id, self.backend.heartbeat_timeout
                )
            }

    def on_get_status(self, req: falcon.Request, resp: falcon.Response, loadbalancer_id: str) -> None:
        """The tree of statuses."""
        with self.backend.database.read() as conn:
            self.reach(conn, access_of(req), loadbalancer_id)
            resp.media = {"statuses": {"loadbalancer": status_tree(read_tree(conn, loadbalancer_id))}}

    def on_put_failover(self, req: falcon.Request, resp: falcon.Response, loadbalancer_id: str) -> None:
        """Have the amphorae that stand now replaced."""
        self.allowed(req, loadbalancer_id)

        def work(conn: Connection, generation: int) -> None:
            intents.replace_amphorae(
                conn, loadbalancer_id, generation, intents.standing_amphorae(conn, loadbalancer_id)
            )

        self.backend.changes.command(loadbalancer_id, work)
        resp.status = falcon.HTTP_202


def _whole(row: LoadBalancer, graph: Graph) -> dict[str, Any]:
    """The answer to a POST: listeners and pools in full."""
    on, rows = references([row.id]), Rows(graph.rows)
    users: dict[str | None, list[str]] = {}
    for listener in rows.of(Listener):
        users.setdefault(listener.default_pool_id, []).append(listener.id)
    listeners = [view(listener, {"loadbalancers": on}) for listener in rows.of(Listener)]
    pools = [
        view(pool, {"loadbalancers": on, "listeners": references(users.get(pool.id, ()))} | _below(rows, pool))
        for pool in rows.of(Pool)
    ]
    return view(row, {"listeners": listeners, "pools": pools})


def _below(rows: Rows, pool: Pool) -> dict[str, Any]:
    monitor = next(iter(rows.below(HealthMonitor, pool.id)), None)
    return {
        "members": [view(member) for member in rows.below(Member, pool.id)],
        "healthmonitor_id": monitor.id if monitor else None,
        "healthmonitor": view(monitor, {"pools": references([pool.id])}) if monitor else None,
    }
