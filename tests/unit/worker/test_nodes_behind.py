"""Reads that go through a node of the database which has not seen yet what was written through another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import Connection, select
from world import World

from tavia.model.statuses import ProvisioningStatus, Topology
from tavia.store import schema
from tavia.store.database import Database
from tavia.worker import convergence, observing
from tavia.worker.rounds import converge

MakeWorld = Callable[..., World]


class OneReadBehind(Database):
    """Shows at each read what was committed when the one before it ended."""

    def __init__(self, real: Database, stack: ExitStack) -> None:
        super().__init__(**vars(real))
        self._stack = stack
        self._seen = self._snapshot()

    def _snapshot(self) -> Connection:
        conn = self._stack.enter_context(self.snapshots.connect())
        conn.execute(select(schema.lease))  # SQLite's snapshot begins with the first statement
        return conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See the class."""
        yield self._seen
        self._seen.close()
        self._seen = self._snapshot()


def test_a_worker_never_plans_from_before_its_own_writes(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convergence, "FRESH", 0.0)
    world = make_world(Topology.ACTIVE_STANDBY)
    loadbalancer = world.create()
    with ExitStack() as stack:
        behind = OneReadBehind(world.database, stack)
        controller = dataclasses.replace(world.controller(), database=behind)
        (free,) = world.due()
        converge(controller, free, "worker")

    assert world.tree(loadbalancer).loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
    with world.database.read() as conn:
        assert len(conn.execute(select(schema.amphora.c.id)).all()) == 2


def test_a_node_that_stays_behind_is_named(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "CATCH_UP", 0.0)
    world = make_world()
    lease = world.take(world.create().id, "worker")
    assert lease
    with pytest.raises(observing.NodeBehind, match="behind the others"):
        observing.observed(world.database, lease, "a write that this node has not seen")
