"""A database of the first release, with its data, is brought to this one: on SQLite and on MariaDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from mariadb import MariaDb, name_of
from sqlalchemy import Connection, select, text, update

from tavia.model.mark import Mark
from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.store import commits, due, intents, leases, listing, liveness, reading, schema, trees
from tavia.store.clock import utcnow
from tavia.store.database import Database
from tavia.store.listing import Listing
from tavia.store.migrate import COLLATION, alembic_config, upgrade
from tavia.store.migrations import rerunnable
from tavia.store.opening import open_database

DATA = Path(__file__).parent / "first_release.sql"
LOADBALANCER = "11111111-0000-4000-8000-000000000001"


@pytest.fixture(params=["sqlite", "mariadb"])
def first_release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database at revision 0001, made with the server's own collation."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tavia.sqlite'}"
    else:
        url = request.getfixturevalue("mariadb").create_database()
    database = Database.connect(url)
    config = alembic_config()
    with database.engine.connect().execution_options(writer=True) as conn, conn.begin():
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        for statement in DATA.read_text().split(";\n"):
            if statement.strip():
                conn.exec_driver_sql(statement)
    database.dispose()
    yield url


def test_every_row_is_there_and_readable(first_release: str) -> None:
    upgrade(first_release)
    database = open_database(first_release)
    assert database.deployment_id() == "00000000-0000-4000-8000-00000000000d"
    with database.read() as conn:
        for table in schema.metadata.sorted_tables:
            expected = f"INSERT INTO {table.name} " in DATA.read_text()
            assert bool(conn.execute(select(table)).all()) == expected, table.name
        for resource in (LoadBalancer, Listener, Pool, Member, HealthMonitor, Amphora):
            assert len(listing.page(conn, resource, Listing())[0]) == 1
        tree = trees.read_tree(conn, LOADBALANCER)
        assert tree.loadbalancer.tags == ["prod", "Grün"]
        assert (tree.generation, tree.loadbalancer.observed_generation) == (3, 2)
        assert tree.amphorae[0].boot_started_at == 1760000000.25
        assert tree.of(Member)[0].created_at.microsecond == 123456
        assert reading.statistics_sum(conn, "loadbalancer_id", LOADBALANCER, 60.0)["bytes_in"] == 5000000000
        assert liveness.last_marks(conn) == {tree.amphorae[0].id: Mark(None, (1, 9))}
    database.dispose()


def test_convergence_goes_on_where_the_first_release_stopped(first_release: str) -> None:
    upgrade(first_release)
    database = open_database(first_release)
    with database.read() as conn:
        (free,) = due.due(conn, ["amphora"], 10)
    lease = database.write(lambda conn: leases.take(conn, free.lease, "worker", 30.0))
    assert lease
    assert (lease.loadbalancer_id, lease.epoch) == (LOADBALANCER, 5)
    assert database.write(lambda conn: intents.begin_change(conn, LOADBALANCER)) == 4

    with database.read() as conn:
        to_apply = trees.read_tree(conn, LOADBALANCER)

    def commit(conn: Connection) -> None:
        leases.touch(conn, lease, 30.0)
        commits.commit_children(conn, to_apply, {}, {})
        commits.commit_converged(conn, LOADBALANCER, 4)

    database.write(commit)
    with database.read() as conn:
        tree = trees.read_tree(conn, LOADBALANCER)
    assert {tree.loadbalancer.provisioning_status, tree.of(Member)[0].provisioning_status} == {"ACTIVE"}
    database.dispose()


def test_two_upgrades_at_once_do_no_harm(first_release: str) -> None:
    failures: list[Exception] = []

    def run() -> None:
        try:
            upgrade(first_release)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert open_database(first_release).deployment_id()


def test_an_upgrade_that_failed_half_way_is_run_again(first_release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB keeps each table and column that was made before the failure."""
    done = 0
    while True:
        monkeypatch.setattr(rerunnable, "before_each", _fail_at(done))
        try:
            upgrade(first_release)
        except InterruptedError:
            done += 1
        else:
            break
    assert done > 3
    database = open_database(first_release)
    with database.engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []
    database.dispose()


def _fail_at(number: int) -> object:
    seen = iter(range(1000))

    def fail() -> None:
        if next(seen) == number:
            raise InterruptedError

    return fail


def test_strings_are_compared_as_they_are(mariadb: MariaDb) -> None:
    url = mariadb.migrated_database()
    columns = "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_schema = %s"
    found = {row[0] for row in mariadb.sql(columns, name_of(url)) if row[0]}
    assert found <= {COLLATION, "utf8mb4_bin"}  # the second is what MariaDB gives to JSON
    database = open_database(url)
    lb = schema.load_balancer
    row = LoadBalancer(id=LOADBALANCER, project_id="p", created_at=utcnow(), name="Web 🐙")
    database.write(lambda conn: intents.create_loadbalancer(conn, row))
    with database.read() as conn:
        for name, matches in (("Web 🐙", 1), ("web 🐙", 0), ("Web 🐙 ", 0), ("Web 🐘", 0), ("Wéb 🐙", 0)):
            assert len(conn.execute(select(lb.c.id).where(lb.c.name == name)).all()) == matches, name
    changed = update(lb).values(name="Web 🐙")
    assert database.write(lambda conn: conn.execute(changed).rowcount) == 1  # matched, though nothing is new
    with database.read() as conn:
        assert conn.execute(text("SELECT @@tx_isolation")).scalar_one() == "REPEATABLE-READ"
    database.dispose()
