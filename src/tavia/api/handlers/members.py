"""Members of a pool, one by one or as a whole set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import falcon
from sqlalchemy import ColumnElement, Connection

from tavia.api import quotas, rules, schemas
from tavia.api.access import access_of
from tavia.api.bodies import root_of, validated
from tavia.api.changes import Unchanged, touch_pools
from tavia.api.errors import parent_not_found, validation_failure
from tavia.api.graph import Graph
from tavia.api.handlers.common import Backend, ChildWriter, flag, in_use, parent_in, reachable, still_in_use
from tavia.api.rbac import API
from tavia.model.attributes import attributes
from tavia.model.resources import Member, Pool
from tavia.store import intents, reading, schema


class Members(ChildWriter):
    """/pools/{pool_id}/members"""

    resource = Member
    paths = {"/pools/{pool_id}/members": None, "/pools/{pool_id}/members/{member_id}": "one"}

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.post_body = schemas.post(Member)
        self.put_body = schemas.put(Member)
        self._set = schemas.members_put()

    def scope(self, conn: Connection, **parents: str) -> Sequence[ColumnElement[bool]]:
        """The members of the pool in the path, which must be there."""
        if not parents:
            return ()
        pool_id = parents["pool_id"]
        if reading.find(conn, Pool, pool_id) is None:
            raise parent_not_found(Pool.names.title, pool_id)
        return (schema.member.c.pool_id == pool_id,)

    def listed(self, conn: Connection, req: falcon.Request, **parents: str) -> Sequence[ColumnElement[bool]]:
        """All members, of a pool that the caller may read."""
        pool = parent_in(conn, req, Pool, parents["pool_id"], parent_not_found)
        return (schema.member.c.pool_id == pool.id,)

    def _pool(self, req: falcon.Request, pool_id: str) -> Pool:
        """The pool in the path, whose members the caller may change."""
        with self.backend.database.read() as conn:
            pool: Pool = parent_in(conn, req, Pool, pool_id, parent_not_found)
        return pool

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """One more member."""
        pool_id = parents["pool_id"]
        place_in = partial(
            reading.place_for_member, pool_id=pool_id, address=body["address"], port=body["protocol_port"]
        )
        with self.backend.database.query() as conn:
            seen = place_in(conn)
        loadbalancer_id = reachable(req, seen.pool, Pool, pool_id, parent_not_found).loadbalancer_id
        self.backend.vips.check_member_subnet(body, self.backend.vips.seen_by(req))

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            place = seen if seen.generation == generation - 1 else place_in(conn)
            pool = still_in_use(place.pool, Pool, pool_id, loadbalancer_id)
            graph = Graph(loadbalancer_id, pool.project_id, self.backend.conf)
            member = graph.add_member(pool.id, body, has_monitor=place.has_monitor)
            if place.is_taken:
                raise rules.duplicate_member(member.address, member.protocol_port)
            quotas.check(conn, self.backend.conf, member.project_id, graph.rows)
            graph.insert(conn, generation)
            touch_pools(conn, [pool_id], generation)
            return self.show(conn, member)

        return self.backend.changes.change_below(loadbalancer_id, work)

    def settled(self, conn: Connection, old: Member, new: Member) -> Member:
        """It is reached, and checked, where members may be."""
        return rules.member(new, self.backend.conf.networking.reserved_ips)

    def touch(self, conn: Connection, row: Member, generation: int) -> None:
        """Its pool and the listeners that use that."""
        touch_pools(conn, [row.pool_id], generation)

    def on_put(self, req: falcon.Request, resp: falcon.Response, pool_id: str) -> None:
        """Make the set what the body says, by address and port; with ``additive_only`` nothing is removed.

        It states the members: a weight, say, that it does not name is 1 afterwards, whatever it was. Members that stay
        as they are are not touched. Where that is all of them nothing is accepted at all.
        """
        additive = flag(req, "additive_only")
        bodies = validated(self._set, root_of(self.document(req), "members_", "members"), "members_", "members")
        if len({_key(body) for body in bodies}) < len(bodies):
            raise validation_failure("A member is given twice: address and protocol_port must be unique.")
        pool = self._pool(req, pool_id)
        for action in ("post",) if additive else ("post", "delete"):
            access_of(req).check(pool.project_id, f"{API}member:{action}")
        seen = self.backend.vips.seen_by(req)
        for body in bodies:
            self.backend.vips.check_member_subnet(body, seen)
        loadbalancer_id = pool.loadbalancer_id

        def work(conn: Connection, generation: int) -> None:
            pool = in_use(conn, Pool, pool_id, loadbalancer_id)
            if not self._replace(conn, pool, generation, bodies, additive=additive):
                raise Unchanged
            touch_pools(conn, [pool_id], generation)

        self.backend.changes.change_below_if_any(loadbalancer_id, work)
        resp.status = falcon.HTTP_202

    def _replace(
        self, conn: Connection, pool: Pool, generation: int, bodies: Sequence[dict[str, Any]], *, additive: bool
    ) -> bool:
        """Whether anything changed."""
        graph = Graph(pool.loadbalancer_id, pool.project_id, self.backend.conf)
        has_monitor = reading.has_monitor(conn, pool.id)
        there = reading.find_all(conn, Member, reading.below(Member, pool.id), reading.intended(Member))
        unnamed = {(member.address, member.protocol_port): member for member in there}
        changed: dict[str, dict[str, Any]] = {}
        for body in bodies:
            old = unnamed.pop(_key(body), None)
            if old is None:
                graph.add_member(pool.id, body, has_monitor=has_monitor)
            elif values := self._differences(conn, old, body):
                changed[old.id] = values
        intents.change_each(conn, Member, changed, generation)
        gone = [] if additive else [member.id for member in unnamed.values()]
        intents.mark_deleted(conn, Member, gone, generation)
        quotas.check(conn, self.backend.conf, pool.project_id, graph.rows)
        graph.insert(conn, generation)
        return bool(changed or gone or graph.rows)

    def _differences(self, conn: Connection, old: Member, body: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in body.items() if name != "project_id"}
        return rules.differences(old, self.settled(conn, old, dataclasses.replace(old, **(_STATED | own))))


# What else a member has stays where the batch does not name it: name, tags and subnet_id.
_STATED: dict[str, Any] = {
    each.name: each.field.default
    for each in attributes(Member)
    if each.name in ("weight", "backup", "admin_state_up", "monitor_address", "monitor_port")
}


def _key(body: dict[str, Any]) -> tuple[str, int]:
    return body["address"], body["protocol_port"]
