"""Amphorae, as an operator sees them: under /octavia, not under /lbaas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import falcon
from sqlalchemy import ColumnElement, Connection

from tavia.api.access import Access, access_of
from tavia.api.errors import immutable, not_found
from tavia.api.handlers.common import OCTAVIA, Reader
from tavia.model.resources import Amphora
from tavia.model.statuses import AmphoraStatus
from tavia.store import intents, liveness, reading


class Amphorae(Reader):
    """/amphorae"""

    resource = Amphora
    prefixes = OCTAVIA
    paths = {
        "/amphorae": None,
        "/amphorae/{amphora_id}": "one",
        "/amphorae/{amphora_id}/failover": "failover",
        "/amphorae/{amphora_id}/config": "config",
        "/amphorae/{amphora_id}/stats": "stats",
    }

    def reach(self, conn: Connection, access: Access, object_id: str, **parents: str) -> Any:
        """Amphorae are of no project, so the rule comes first."""
        access.check(access.project_id)
        return self.find(conn, object_id)

    def listed(self, conn: Connection, req: falcon.Request, **parents: str) -> Sequence[ColumnElement[bool]]:
        """All of them."""
        access = access_of(req)
        access.check(access.project_id)
        return ()

    def on_delete_one(self, req: falcon.Request, resp: falcon.Response, amphora_id: str) -> None:
        """One that failed is removed, as it is in any case; one that serves goes with its load balancer only."""
        amphora = self.allowed(req, amphora_id)
        if amphora.status is not AmphoraStatus.ERROR:
            raise immutable(Amphora.names.title, amphora_id)
        self.backend.changes.look_again(self._owner(req, amphora_id))
        resp.status = falcon.HTTP_204

    def on_put_failover(self, req: falcon.Request, resp: falcon.Response, amphora_id: str) -> None:
        """Have it replaced by another."""
        loadbalancer_id = self._owner(req, amphora_id)

        def work(conn: Connection, generation: int) -> None:
            intents.replace_amphorae(conn, loadbalancer_id, generation, [amphora_id])

        self.backend.changes.command(loadbalancer_id, work)
        resp.status = falcon.HTTP_202

    def on_put_config(self, req: falcon.Request, resp: falcon.Response, amphora_id: str) -> None:
        """Have its agent's configuration and its bundle sent again."""
        again = partial(liveness.push_again, amphora_id=amphora_id)
        self.backend.changes.command(self._owner(req, amphora_id), lambda conn, _generation: again(conn))
        resp.status = falcon.HTTP_202

    def on_get_stats(self, req: falcon.Request, resp: falcon.Response, amphora_id: str) -> None:
        """The counters of each listener on it."""
        with self.backend.database.read() as conn:
            self.reach(conn, access_of(req), amphora_id)
            counters = reading.statistics_of_amphora(conn, amphora_id, self.backend.heartbeat_timeout)
        if not counters:
            raise not_found("Amphora statistics of amphora", amphora_id)
        resp.media = {"amphora_stats": [dict(row._mapping) | {"id": amphora_id} for row in counters]}

    def _owner(self, req: falcon.Request, amphora_id: str) -> str:
        loadbalancer_id: str | None = self.allowed(req, amphora_id).loadbalancer_id
        if loadbalancer_id is None:
            raise not_found(Amphora.names.title, amphora_id)
        return loadbalancer_id
