"""Whatever MariaDB answers to one who was not first, or asks at a bad moment: it happens once, a little later."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pymysql
import pytest
from cut import SAID, Refusal, refusals, wire
from mariadb import Galera, MariaDb, conflicts, name_of, wait_for
from sqlalchemy import Connection, event, select, text
from sqlalchemy.engine import ExceptionContext

from tavia.model.resources import LoadBalancer
from tavia.store import database as database_module
from tavia.store import intents, schema
from tavia.store.clock import utcnow
from tavia.store.database import PASSING, Database, StoreBusy


def new_loadbalancer(database: Database) -> str:
    loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
    return loadbalancer.id


def accepted(database: Database, loadbalancer_id: str) -> list[int]:
    """The generations of the changes that stand in the database; the last is the load balancer's own."""
    change, lb = schema.accepted_change.c, schema.load_balancer.c
    with database.read() as conn:
        found = conn.execute(
            select(change.generation).where(change.loadbalancer_id == loadbalancer_id).order_by(change.generation)
        )
        generations = list(found.scalars())
        assert conn.execute(select(lb.generation).where(lb.id == loadbalancer_id)).scalar_one() == generations[-1]
    return generations


@contextmanager
def database_at(url: str) -> Iterator[Database]:
    database = Database.connect(url)
    try:
        yield database
    finally:
        database.dispose()


@pytest.fixture
def database(mariadb: MariaDb) -> Iterator[Database]:
    with database_at(mariadb.migrated_database()) as made:
        yield made


def test_the_errors_that_pass_are_those_tried_here() -> None:
    assert set(SAID) == set(PASSING)


@pytest.mark.parametrize("refusal", refusals(), ids=str)
def test_a_change_whose_commit_is_refused_is_accepted_once_and_nothing_else_with_it(
    mariadb: MariaDb, refusal: Refusal
) -> None:
    url = mariadb.migrated_database()
    with wire(mariadb) as way, database_at(url) as whole, database_at(way.through(url)) as refused:
        loadbalancer_id = new_loadbalancer(whole)
        way.cuts = [refusal] * 2
        assert refused.write(lambda conn: intents.begin_change(conn, loadbalancer_id)) == 2
        # One that was done needs no other run; the first of the others finds out by looking.
        assert way.done == [refusal] * (1 if refusal.is_done else 2)
        way.cuts = []
        assert refused.write(lambda conn: intents.begin_change(conn, loadbalancer_id)) == 3
        assert accepted(whole, loadbalancer_id) == [1, 2, 3]


def test_of_two_that_deadlock_one_runs_again(mariadb: MariaDb, database: Database) -> None:
    ids = [new_loadbalancer(database) for _ in range(2)]
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def change(first: str, second: str) -> None:
        def work(conn: Connection) -> None:
            runs.append(first)
            intents.begin_change(conn, first)
            if runs.count(first) == 1:
                both_hold_one.wait(30)
            lb = schema.load_balancer
            conn.execute(lb.update().where(lb.c.id == second).values(description=lb.c.description + "+"))

        database.write(work)

    before = int(mariadb.status("Innodb_deadlocks"))
    other = threading.Thread(target=change, args=ids[::-1])
    other.start()
    change(*ids)
    other.join()
    assert int(mariadb.status("Innodb_deadlocks")) > before
    assert len(runs) > 2
    lb = schema.load_balancer.c
    with database.read() as conn:
        assert conn.execute(select(lb.generation, lb.description).where(lb.id.in_(ids))).all() == [(2, "+")] * 2


def test_a_change_that_another_node_of_the_cluster_was_first_with_fails_at_commit_and_is_accepted_after_it(
    galera: Galera,
) -> None:
    first, second = galera.nodes[:2]
    name = name_of(first.migrated_database())
    with database_at(first.url(name)) as ahead, database_at(second.url(name)) as behind:
        loadbalancer_id = new_loadbalancer(ahead)
        wait_for(lambda: bool(second.sql("SELECT 1 FROM load_balancer", database=name)), "the other node sees it")
        before = conflicts(second)
        ended: list[int] = []

        def work(conn: Connection) -> int:
            generation = intents.begin_change(conn, loadbalancer_id)
            if not ended:
                ahead.write(lambda conn: intents.begin_change(conn, loadbalancer_id))
                wait_for(lambda: conflicts(second) > before, "it is aborted")
            ended.append(generation)
            return generation

        assert behind.write(work) == 3
        assert ended == [2, 3], "the first run came as far as its COMMIT"
        assert accepted(behind, loadbalancer_id) == [1, 2, 3]


@contextmanager
def met(database: Database) -> Iterator[list[int]]:
    """Collects the codes of the server's errors."""
    codes: list[int] = []

    def note(context: ExceptionContext) -> None:
        codes.append((context.original_exception.args or (0,))[0])

    engines = set(vars(database).values())
    for engine in engines:
        event.listen(engine, "handle_error", note, insert=True)  # before oslo.db, which raises
    yield codes
    for engine in engines:
        event.remove(engine, "handle_error", note)


def test_a_change_that_is_killed_under_way_is_accepted_once(mariadb: MariaDb, database: Database) -> None:
    loadbalancer_id = new_loadbalancer(database)
    long = "SELECT COUNT(*) FROM " + ", ".join(f"information_schema.collations c{number}" for number in range(5))
    at_it = f"SELECT id FROM information_schema.processlist WHERE info = '{long}'"

    def work(conn: Connection) -> int:
        generation = intents.begin_change(conn, loadbalancer_id)
        if not codes:
            conn.execute(text(long))
        return generation

    def is_killed() -> bool:
        for (thread,) in mariadb.sql(at_it):
            mariadb.sql(f"KILL {thread}")  # again where it came before the query had begun
        return bool(codes)

    with met(database) as codes, ThreadPoolExecutor(1) as writer:
        change = writer.submit(database.write, work)
        wait_for(is_killed, "it is killed")
        assert change.result() == 2
    assert set(codes) <= {1927, 2013}, "killed, or found dead"
    assert accepted(database, loadbalancer_id) == [1, 2]


def test_a_change_of_a_row_that_changed_since_its_snapshot_runs_again(database: Database) -> None:
    loadbalancer_id = new_loadbalancer(database)
    runs: list[int] = []

    def work(conn: Connection) -> int:
        runs.append(1)
        conn.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
        conn.execute(select(schema.load_balancer.c.id)).all()
        if len(runs) == 1:
            database.write(lambda conn: intents.begin_change(conn, loadbalancer_id))
        return intents.begin_change(conn, loadbalancer_id)

    with met(database) as codes:
        assert database.write(work, in_snapshot=True) == 3
    assert codes == [1020]
    assert accepted(database, loadbalancer_id) == [1, 2, 3]


def take_all_connections(server: MariaDb, taken: ExitStack) -> None:
    """Until it refuses for a while: others end late, after their clients have gone."""
    refused_since = None
    while refused_since is None or time.monotonic() - refused_since < 0.3:
        try:
            taken.enter_context(server.connect())
            refused_since = None
        except pymysql.OperationalError as error:
            assert error.args[0] == 1040
            refused_since = refused_since or time.monotonic()
            time.sleep(0.02)


def test_a_server_that_has_no_connection_left_is_busy_until_it_has(
    mariadb: MariaDb, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loadbalancer_id = new_loadbalancer(database)
    database.dispose()
    with mariadb.connect() as admin:
        admin.execute("SELECT @@max_connections")
        (most,) = admin.fetchone()
        still_there = int(mariadb.status("Threads_connected"))  # of tests before this one too
        admin.execute(f"SET GLOBAL max_connections = {max(10, still_there + 2)}")
        try:
            with ExitStack() as taken, monkeypatch.context() as patched:
                take_all_connections(mariadb, taken)
                patched.setattr(database_module, "PATIENCE", 0.2)
                with pytest.raises(StoreBusy, match="Too many connections"):
                    database.write(lambda conn: intents.begin_change(conn, loadbalancer_id))
                patched.undo()
                with ThreadPoolExecutor(1) as thread:
                    change = thread.submit(database.write, lambda conn: intents.begin_change(conn, loadbalancer_id))
                    taken.close()
                    assert change.result() == 2
        finally:
            admin.execute(f"SET GLOBAL max_connections = {most}")


def test_a_node_that_is_not_ready_is_asked_until_it_is(galera: Galera) -> None:
    node = galera.nodes[0]
    url = node.migrated_database()
    with database_at(url) as database, node.connect() as admin, met(database) as codes, ThreadPoolExecutor(1) as thread:
        loadbalancer_id = new_loadbalancer(database)
        admin.execute("SET GLOBAL wsrep_reject_queries = ALL")
        try:
            change = thread.submit(database.write, lambda conn: intents.begin_change(conn, loadbalancer_id))
            wait_for(lambda: bool(codes), "it is refused")
        finally:
            admin.execute("SET GLOBAL wsrep_reject_queries = NONE")
        assert change.result() == 2
        assert set(codes) == {1047}
        assert accepted(database, loadbalancer_id) == [1, 2]
