"""Connections break in the middle of a COMMIT: what was accepted happens once, whichever way the COMMIT went."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from cut import Cut, Wire, wire
from mariadb import MariaDb
from sqlalchemy import Connection, func, select

from tavia.model.resources import LoadBalancer, Pool
from tavia.store import database as database_module
from tavia.store import intents, journal, leases, schema
from tavia.store.clock import utcnow
from tavia.store.database import Database, OutcomeUnknown, StoreBusy
from tavia.store.leases import Lease, LeaseLost

ALL = [*([cut] for cut in Cut), [Cut.COMMIT, Cut.ANSWER], [Cut.COMMIT, Cut.LATE]]


@dataclass
class Way:
    """A database, by a way that breaks and by one that does not."""

    cut: Database
    whole: Database
    wire: Wire
    loadbalancer: LoadBalancer

    def generation(self) -> int:
        with self.whole.read() as conn:
            return int(conn.execute(select(schema.load_balancer.c.generation)).scalar_one())

    def free(self) -> Lease:
        with self.whole.read() as conn:
            return leases.seen(conn, self.loadbalancer.id)

    def take(self, owner: str) -> Lease | None:
        free = self.free()
        return self.whole.write(lambda conn: leases.take(conn, free, owner, 30.0))

    def count(self, table: str) -> int:
        with self.whole.read() as conn:
            return conn.execute(select(func.count()).select_from(schema.metadata.tables[table])).scalar_one()


@pytest.fixture
def way(mariadb: MariaDb) -> Iterator[Way]:
    url = mariadb.migrated_database()
    loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    with wire(mariadb) as made:
        way = Way(Database.connect(made.through(url)), Database.connect(url), made, loadbalancer)
        way.whole.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
        yield way
        way.cut.dispose()
        way.whole.dispose()


def cuts(names: list[Cut]) -> str:
    return "-".join(name.name for name in names)


@pytest.mark.parametrize("lost", ALL, ids=cuts)
def test_a_change_is_accepted_once_and_its_caller_gets_what_was_written(way: Way, lost: list[Cut]) -> None:
    def work(conn: Connection) -> str:
        generation = intents.begin_change(conn, way.loadbalancer.id)
        pool = Pool(
            id=str(uuid.uuid4()),
            project_id="p",
            created_at=utcnow(),
            loadbalancer_id=way.loadbalancer.id,
            protocol="HTTP",
            lb_algorithm="ROUND_ROBIN",
        )
        intents.add(conn, pool, generation)
        return pool.id

    way.wire.cuts = list(lost)
    pool_id = way.cut.write(work)
    assert way.wire.done == lost
    assert way.generation() == 2
    with way.whole.read() as conn:
        assert conn.execute(select(schema.pool.c.id)).scalars().all() == [pool_id]


@pytest.mark.parametrize("lost", ALL, ids=cuts)
def test_a_load_balancer_is_made_once(way: Way, lost: list[Cut]) -> None:
    other = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    way.wire.cuts = list(lost)
    way.cut.write(lambda conn: intents.create_loadbalancer(conn, other))
    assert (way.wire.done, way.count("load_balancer"), way.count("lease")) == (lost, 2, 2)


@pytest.mark.parametrize("lost", ALL, ids=cuts)
@pytest.mark.parametrize("fence", [partial(leases.touch, ttl=30.0), leases.release], ids=["touch", "release"])
def test_a_fenced_write_happens_once(way: Way, lost: list[Cut], fence: Callable[[Connection, Lease], None]) -> None:
    lease = way.take("worker")
    assert lease

    def open_operation(conn: Connection) -> str:
        fence(conn, lease)
        return journal.open_operation(
            conn, loadbalancer_id=lease.loadbalancer_id, what="update", generation=1, epoch=1, host="h"
        )

    way.wire.cuts = list(lost)
    opened = way.cut.write(open_operation)
    assert way.wire.done == lost
    with way.whole.read() as conn:
        assert conn.execute(select(schema.operation.c.id)).scalars().all() == [opened]


@pytest.mark.parametrize("lost", ALL, ids=cuts)
def test_a_lease_whose_taking_went_unanswered_is_held(way: Way, lost: list[Cut]) -> None:
    free = way.free()
    way.wire.cuts = list(lost)
    lease = way.cut.write(lambda conn: leases.take(conn, free, "worker", 30.0))
    assert way.wire.done == lost
    assert lease
    way.whole.write(lambda conn: leases.touch(conn, lease, 30.0))
    assert way.take("other") is None


@pytest.mark.parametrize("lost", ALL, ids=cuts)
def test_an_epoch_whose_raising_went_unanswered_is_held(way: Way, lost: list[Cut]) -> None:
    old = way.take("worker")
    assert old
    way.wire.cuts = list(lost)
    raised = way.cut.write(lambda conn: leases.raise_epoch(conn, old, 7))
    way.whole.write(lambda conn: leases.touch(conn, raised, 30.0))
    with pytest.raises(LeaseLost):
        way.whole.write(lambda conn: leases.touch(conn, old, 30.0))


def test_where_no_answer_ever_comes_the_caller_is_told_that_nobody_knows(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PATIENCE", 0.5)
    way.wire.cuts = [Cut.COMMIT] * 1000
    with pytest.raises(OutcomeUnknown):
        way.cut.write(lambda conn: intents.begin_change(conn, way.loadbalancer.id))
    assert way.generation() == 1


def test_a_lock_that_is_not_given_back_makes_the_store_busy(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PATIENCE", 0.5)
    with way.whole.engine.connect() as conn, conn.begin():
        intents.begin_change(conn, way.loadbalancer.id)
        with pytest.raises(StoreBusy, match="Lock wait timeout"):
            way.cut.write(lambda conn: intents.begin_change(conn, way.loadbalancer.id))
    assert way.generation() == 2
