"""A worker whose reads go through a node of a Galera cluster that lags behind the one it writes through."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mariadb import Galera, MariaDb, name_of
from pymysql.cursors import Cursor
from sqlalchemy import select

from tavia.model.resources import LoadBalancer
from tavia.store import intents, leases, schema
from tavia.store.clock import utcnow
from tavia.store.database import Database
from tavia.store.leases import Lease
from tavia.worker.observing import NodeBehind, observed

HELD = 0.7
"""Seconds for which the node applies nothing."""


@pytest.fixture
def nodes(galera: Galera) -> Iterator[tuple[Database, MariaDb]]:
    """A database that is written through the first node and read through the second, and that second node."""
    name = name_of(galera.nodes[0].migrated_database())
    written, read = (Database.connect(node.url(name)) for node in galera.nodes[:2])
    yield Database(written.engine, read.snapshots, read.queries), galera.nodes[1]
    written.dispose()
    read.dispose()


@contextmanager
def applying_nothing(node: MariaDb) -> Iterator[Cursor]:
    """The node answers reads and applies nothing of what others commit, until its tables are unlocked."""
    with node.connect() as session:
        session.execute("SET GLOBAL wsrep_desync = ON")
        session.execute("FLUSH TABLES WITH READ LOCK")
        try:
            yield session
        finally:
            session.execute("UNLOCK TABLES")
            session.execute("SET GLOBAL wsrep_desync = OFF")


def taken(database: Database) -> Lease:
    """The lease of a new load balancer, which the other nodes have seen before."""
    loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
    lease = database.write(lambda conn: leases.take(conn, leases.seen(conn, loadbalancer.id), "worker", 30.0))
    assert lease
    return lease


def test_what_is_planned_from_has_the_lease_that_was_just_taken(nodes: tuple[Database, MariaDb]) -> None:
    database, node = nodes
    with applying_nothing(node) as session:
        lease = taken(database)
        with database.read() as conn:
            there = select(schema.lease.c.epoch).where(schema.lease.c.loadbalancer_id == lease.loadbalancer_id)
            assert conn.execute(there).first() is None, "the node is not behind"
        began = time.monotonic()
        unlocking = threading.Timer(HELD, lambda: session.execute("UNLOCK TABLES"))
        unlocking.start()
        seen = observed(database, lease, None)
        unlocking.join()
    assert seen.epoch == lease.epoch
    assert time.monotonic() - began >= HELD


def test_a_node_that_does_not_catch_up_is_named(
    nodes: tuple[Database, MariaDb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tavia.worker.observing.CATCH_UP", HELD)
    database, node = nodes
    with applying_nothing(node):
        lease = taken(database)
        with pytest.raises(NodeBehind, match="wsrep state"):
            observed(database, lease, None)
    assert observed(database, lease, None).epoch == lease.epoch
