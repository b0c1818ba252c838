"""A lease is held by one worker; the epoch fences whatever an earlier holder still tries to write."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from functools import partial

import pytest
from fleet import counted_statements
from sqlalchemy import Connection, select, update
from world import take

from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam
from tavia.store import intents, leases, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.store.leases import Lease, LeaseLost
from tavia.store.once import CommittedBefore, Run


def new_loadbalancer(database: Database) -> str:
    loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
    return loadbalancer.id


@pytest.fixture
def loadbalancer_id(database: Database) -> str:
    return new_loadbalancer(database)


def row(database: Database, loadbalancer_id: str) -> tuple[str, int, float, str]:
    """Owner, epoch, until and what was written last."""
    lease = schema.lease.c
    with database.read() as conn:
        found = conn.execute(
            select(lease.owner, lease.epoch, lease.until, lease.written).where(lease.loadbalancer_id == loadbalancer_id)
        ).one()
    return found.owner, found.epoch, found.until, found.written


def server_time(database: Database) -> float:
    with database.read() as conn:
        return float(conn.execute(select(now())).scalar_one())


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


def test_each_load_balancer_has_a_lease_of_its_own(database: Database, loadbalancer_id: str) -> None:
    other = new_loadbalancer(database)
    lease, others = (take(database, each, "a", ttl=10_000.0) for each in (loadbalancer_id, other))
    assert lease
    assert others == Lease(other, "a", 1)
    before = row(database, other)
    for write in (leases.touch, leases.renew):
        database.write(partial(write, lease=lease, ttl=30.0))
    raised = database.write(lambda conn: leases.raise_epoch(conn, lease, 5))
    database.write(lambda conn: leases.release(conn, raised))
    assert row(database, other) == before
    assert row(database, loadbalancer_id)[:3] == ("", 6, 0.0)
    assert take(database, loadbalancer_id, "b") == Lease(loadbalancer_id, "b", 7)
    assert row(database, other) == before


def test_a_fenced_write_costs_one_statement(database: Database, loadbalancer_id: str) -> None:
    lease = take(database, loadbalancer_id, "a")
    assert lease
    with counted_statements(database) as statements:
        database.write(lambda conn: leases.touch(conn, lease, 30.0))
    assert [statement.split()[0] for statement in statements if "BEGIN" not in statement] == ["UPDATE"]


def test_a_renewal_lasts_from_now(database: Database, loadbalancer_id: str) -> None:
    lease = take(database, loadbalancer_id, "a", ttl=10_000.0)
    assert lease
    assert 9_000.0 < row(database, loadbalancer_id)[2] - server_time(database) <= 10_000.0
    for renew in (leases.renew, leases.touch):
        database.write(partial(renew, lease=lease, ttl=1000.0))
        assert 500.0 < row(database, loadbalancer_id)[2] - server_time(database) <= 1000.0
        database.write(lambda conn: conn.execute(update(schema.lease).values(until=0.0)))


def test_one_that_was_given_back_is_nobodys_and_a_late_renewal_comes_too_late(
    database: Database, loadbalancer_id: str
) -> None:
    lease = take(database, loadbalancer_id, "a")
    assert lease
    database.write(lambda conn: leases.release(conn, lease))
    assert row(database, loadbalancer_id)[:3] == ("", 1, 0.0)
    with pytest.raises(LeaseLost) as lost:
        database.write(lambda conn: leases.renew(conn, lease, 30.0))
    assert (lost.value.seam, lost.value.code) == (Seam.CONTROL, "lease-lost")
    assert take(database, loadbalancer_id, "b") == Lease(loadbalancer_id, "b", 2)


def test_only_its_holder_under_its_epoch_writes(database: Database, loadbalancer_id: str) -> None:
    lease = take(database, loadbalancer_id, "a")
    assert lease
    for stranger in (replace(lease, owner="b"), replace(lease, epoch=lease.epoch + 1)):
        for write in (leases.touch, leases.renew):
            with pytest.raises(LeaseLost):
                database.write(partial(write, lease=stranger, ttl=30.0))
        with pytest.raises(LeaseLost):
            database.write(partial(leases.release, lease=stranger))
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.raise_epoch(conn, replace(lease, owner="b"), 5))
    assert row(database, loadbalancer_id)[:2] == ("a", 1)


def test_a_fenced_write_leaves_its_mark_and_a_renewal_none(database: Database, loadbalancer_id: str) -> None:
    lease = take(database, loadbalancer_id, "a")
    assert lease
    database.write(lambda conn: leases.renew(conn, lease, 30.0))
    assert row(database, loadbalancer_id)[3] == ""

    def write(conn: Connection) -> str:
        leases.touch(conn, lease, 30.0)
        return leases.mark(conn)

    def give_back(conn: Connection) -> str:
        leases.release(conn, lease)
        return leases.mark(conn)

    marks = []
    for work in (write, write, give_back):
        marks.append(database.write(work))
        assert row(database, loadbalancer_id)[3] == marks[-1]
    assert len(set(marks)) == 3


def test_a_fenced_write_whose_answer_was_lost_is_not_done_again(database: Database, loadbalancer_id: str) -> None:
    new_loadbalancer(database)
    lease = take(database, loadbalancer_id, "a")
    assert lease

    def as_run(run: Run) -> None:
        with database.engine.connect().execution_options(writer=True, run=run) as conn, conn.begin():
            leases.touch(conn, lease, 30.0)

    as_run(Run("transaction.1", 3))
    with pytest.raises(CommittedBefore) as found:
        as_run(Run("transaction.1", 4, is_sure=False))
    assert found.value.run == 3
    as_run(Run("transaction.2", 1, is_sure=False))
    assert row(database, loadbalancer_id)[3] == "transaction.2.1"


def test_a_taking_that_is_repeated_late_takes_nothing_back(database: Database, loadbalancer_id: str) -> None:
    with database.read() as conn:
        seen = leases.seen(conn, loadbalancer_id)
    lease = database.write(lambda conn: leases.take(conn, seen, "a", 30.0))
    assert lease
    database.write(lambda conn: leases.raise_epoch(conn, lease, 41))
    assert database.write(lambda conn: leases.take(conn, seen, "a", 30.0)) is None
    assert row(database, loadbalancer_id)[:2] == ("a", 42)


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
    for _ in ("once", "and again, where the answer was lost"):
        raised = database.write(lambda conn: leases.raise_epoch(conn, lease, held_by_agents=41))
        assert raised == Lease(loadbalancer_id, "a", 42)
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.raise_epoch(conn, lease, held_by_agents=50))
    with database.read() as conn:
        assert conn.execute(select(schema.lease.c.epoch)).scalar_one() == 42
