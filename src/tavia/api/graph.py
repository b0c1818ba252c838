"""New objects: rows made from the validated bodies of a POST, one object or a whole tree, in one transaction.

A :class:`Graph` belongs to one load balancer. Handlers add bodies to it, check what depends on other rows, and
insert it all at one generation.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from oslo_config import cfg
from sqlalchemy import Connection

from tavia.api import rules
from tavia.api.errors import ApiError, validation_failure
from tavia.model.attributes import attributes
from tavia.model.resources import CHILDREN, Configured, HealthMonitor, Listener, Member, Pool
from tavia.model.statuses import operating_at_creation
from tavia.store import intents
from tavia.store.clock import utcnow

T = TypeVar("T")
C = TypeVar("C", bound=Configured)


@dataclass
class Graph:
    """The new rows below a load balancer, whose ``project_id`` is theirs too. Listeners are for its ``vips``."""

    loadbalancer_id: str
    project_id: str
    conf: cfg.ConfigOpts
    vips: Sequence[str] = ()
    _rows: dict[type[Configured], list[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> list[Configured]:
        """All of them, referenced rows before the ones that reference them."""
        return [row for resource in CHILDREN for row in self.of(resource)]

    def of(self, resource: type[C]) -> Sequence[C]:
        """The new rows of a resource."""
        return self._rows.get(resource, ())

    def add_tree(self, listeners: Iterable[dict[str, Any]], pools: Iterable[dict[str, Any]]) -> None:
        """All that a load balancer's POST may hold. Pools are known by name there, defined once."""
        named: dict[str, Pool] = {}
        references: list[tuple[Listener, str]] = []
        for body in pools:
            self._define(body, named)
        for body in listeners:
            listener = self.add_listener({name: value for name, value in body.items() if name != "default_pool"})
            its_pool = body.get("default_pool")
            if its_pool is not None and set(its_pool) == {"name"}:
                references.append((listener, its_pool["name"]))
            elif its_pool is not None:
                self._set_default(listener, self._define(its_pool, named))
        for listener, name in references:
            if name not in named:
                raise validation_failure(f"The pool {name} is referenced but has no definition.")
            self._set_default(listener, named[name])
        if place := _twice(rules.place(listener) for listener in self.of(Listener)):
            raise rules.duplicate_listener(place.port)

    def _define(self, body: dict[str, Any], named: dict[str, Pool]) -> Pool:
        name = body.get("name")
        if not name:
            raise validation_failure("Pools must be named when creating a fully populated load balancer.")
        if name in named:
            raise validation_failure(f"Pool names must be unique when creating a load balancer: {name}.")
        named[name] = self.add_pool(body)
        return named[name]

    def _set_default(self, listener: Listener, pool: Pool) -> None:
        rules.default_pool(listener, pool)
        listener.default_pool_id = pool.id

    def add_listener(self, body: dict[str, Any]) -> Listener:
        """One listener. A default pool defined inside it comes with it."""
        its_pool = body.get("default_pool")
        listener = self.add(Listener, body, partial(rules.listener, vips=self.vips))
        if its_pool is not None:
            if listener.default_pool_id is not None:
                raise validation_failure("Only one of default_pool_id and default_pool can be given.")
            self._set_default(listener, self.add_pool(its_pool))
        return listener

    def add_pool(self, body: dict[str, Any]) -> Pool:
        """One pool, with the members and the monitor inside it."""
        for name in ("protocol", "lb_algorithm"):
            if name not in body:
                raise ApiError(400, f"Missing details for the pool {body.get('name', '')}: {name} is mandatory.")
        members, monitor = body.get("members", []), body.get("healthmonitor")
        pool = self.add(Pool, body, rules.pool)
        if monitor is not None:
            self.add_healthmonitor(pool, monitor)
        added = [self.add_member(pool.id, member, has_monitor=monitor is not None) for member in members]
        if server := _twice((member.address, member.protocol_port) for member in added):
            raise rules.duplicate_member(*server)
        return pool

    def add_member(self, pool_id: str, body: dict[str, Any], *, has_monitor: bool) -> Member:
        """One member of a pool, old or new."""
        status = operating_at_creation(is_member=True, has_monitor=has_monitor)
        settled = partial(rules.member, reserved_addresses=self.conf.networking.reserved_ips)
        return self.add(Member, body, settled, pool_id=pool_id, operating_status=status)

    def add_healthmonitor(self, pool: Pool, body: dict[str, Any]) -> HealthMonitor:
        """The monitor of a pool, old or new."""
        monitor = self.add(HealthMonitor, body, rules.healthmonitor, pool_id=pool.id)
        rules.monitored(pool, monitor)
        return monitor

    def add(self, resource: type[C], body: dict[str, Any], settled: Callable[[C], C] | None = None, **more: Any) -> C:
        """One row of any resource, as the rules have it; ``more`` are attributes beside the body's."""
        own = {each.name: body[each.name] for each in attributes(resource) if each.name in body}
        owner = {"loadbalancer_id": self.loadbalancer_id, "project_id": self.project_id}
        row = resource(**(own | owner | more), id=str(uuid.uuid4()), created_at=utcnow())
        row = settled(row) if settled else row
        self._rows.setdefault(resource, []).append(row)
        return row

    def insert(self, conn: Connection, generation: int) -> None:
        """Write the rows, to exist from this generation on."""
        intents.add_all(conn, self.rows, generation)


def _twice(values: Iterable[T]) -> T | None:
    """A value that occurs more than once."""
    return next((value for value, times in Counter(values).items() if times > 1), None)
