"""A lease is held by one worker; the epoch fences whatever an earlier holder still tries to write."""

from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import select, update
from world import take

from tavia.model.resources import LoadBalancer
from tavia.store import intents, leases, schema
from tavia.store.clock import now
from tavia.store.database import Database
from tavia.store.leases import Lease, LeaseLost
from tavia.store.rows import utcnow


@pytest.fixture
def loadbalancer_id(database: Database) -> str:
    loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
    return loadbalancer.id


def test_a_free_lease_is_taken_under_the_next_epoch(database: Database, loadbalancer_id: str) -> None:
    assert take(database, loadbalancer_id, "a") == Lease(loadbalancer_id, "a", 1)


def test_a_held_lease_is_not_taken(database: Database, loadbalancer_id: str) -> None:
    take(database, loadbalancer_id, "a")
    assert take(database, loadbalancer_id, "b") is None


def test_of_many_workers_at_once_one_takes_it(database: Database, loadbalancer_id: str) -> None:
    taken = []
    threads = [
        threading.Thread(target=lambda n=n: taken.append(take(database, loadbalancer_id, f"worker {n}")))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in taken if lease]) == 1


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_fenced(database: Database, loadbalancer_id: str) -> None:
    old = take(database, loadbalancer_id, "a")
    assert old
    database.write(lambda conn: conn.execute(update(schema.lease).values(until=now() - 1.0)))
    new = take(database, loadbalancer_id, "b")
    assert new
    assert new.epoch == old.epoch + 1
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.touch(conn, old, 30.0))
    database.write(lambda conn: leases.touch(conn, new, 30.0))


def test_releasing_a_lost_lease_does_not_free_it(database: Database, loadbalancer_id: str) -> None:
    old = take(database, loadbalancer_id, "a", ttl=-1.0)
    assert old
    assert take(database, loadbalancer_id, "b")
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.release(conn, old))
    assert take(database, loadbalancer_id, "c") is None


def test_one_that_was_taken_since_it_was_seen_is_not_taken_though_it_is_free_again(
    database: Database, loadbalancer_id: str
) -> None:
    with database.read() as conn:
        seen = leases.seen(conn, loadbalancer_id)
    quicker = take(database, loadbalancer_id, "a")
    assert quicker
    database.write(lambda conn: leases.release(conn, quicker))
    assert database.write(lambda conn: leases.take(conn, seen, "b", 30.0)) is None


def test_taking_it_is_repeated_where_the_answer_was_lost(database: Database, loadbalancer_id: str) -> None:
    with database.read() as conn:
        seen = leases.seen(conn, loadbalancer_id)
    taken = database.write(lambda conn: leases.take(conn, seen, "a", 30.0))
    assert taken
    assert database.write(lambda conn: leases.take(conn, seen, "a", 30.0)) == taken
    assert database.write(lambda conn: leases.take(conn, seen, "b", 30.0)) is None


def test_the_holder_goes_past_epochs_that_agents_remember(database: Database, loadbalancer_id: str) -> None:
    lease = take(database, loadbalancer_id, "a")
    assert lease
    raised = database.write(lambda conn: leases.raise_epoch(conn, lease, held_by_agents=41))
    assert raised.epoch == 42
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.raise_epoch(conn, lease, held_by_agents=50))
    with database.read() as conn:
        assert conn.execute(select(schema.lease.c.epoch)).scalar_one() == 42
