"""What reaches MariaDB beside our statements: one COMMIT a transaction, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mariadb import MariaDb
from sqlalchemy import select, update

from tavia.store import schema
from tavia.store.clock import now
from tavia.store.database import Database, StoreUnreachable
from tavia.store.engine import default_options
from tavia.store.opening import open_database

OPTIONS = {"max_pool_size": 3, "max_overflow": 1, "pool_timeout": 1, "mysql_sql_mode": "STRICT_ALL_TABLES"}


@contextmanager
def questions(server: MariaDb, expected: int) -> Iterator[None]:
    def count() -> int:
        return int(server.status("Questions"))

    idle = -count() + count()  # what asking costs
    before = count()
    yield
    assert count() - before - idle == expected


def test_a_transaction_costs_its_statements_and_a_commit(mariadb: MariaDb) -> None:
    database = open_database(mariadb.migrated_database())
    with database.read():  # the first makes the connections
        database.write(lambda conn: conn.execute(select(now())))
    with questions(mariadb, expected=2), database.read() as conn:
        conn.execute(select(now()))
    with questions(mariadb, expected=2):
        database.write(lambda conn: conn.execute(select(now())))
    database.dispose()


def test_a_look_costs_its_statement_alone_and_sees_what_is_committed_then(mariadb: MariaDb) -> None:
    database = open_database(mariadb.migrated_database())
    age = select(schema.deployment.c.created)
    with database.query() as conn:  # the first makes the connection
        made = conn.execute(age).scalar_one()
    with questions(mariadb, expected=1), database.query() as conn:
        conn.execute(age)
    database.write(lambda conn: conn.execute(update(schema.deployment).values(created=made - 1)))
    with database.query() as conn:
        assert conn.execute(age).scalar_one() == made - 1
    database.dispose()


def test_the_options_of_the_group_database_reach_the_connections(mariadb: MariaDb) -> None:
    database = Database.connect(mariadb.migrated_database(), default_options(**OPTIONS))
    for engine, isolation in ((database.engine, "READ-COMMITTED"), (database.snapshots, "REPEATABLE-READ")):
        with engine.connect() as conn:
            found = conn.exec_driver_sql("SELECT @@sql_mode, @@tx_isolation, @@innodb_lock_wait_timeout").one()
        assert tuple(found) == ("STRICT_ALL_TABLES", isolation, 5)
    with database.read(), database.read(), database.read(), database.read():  # noqa: SIM117
        with pytest.raises(StoreUnreachable, match="QueuePool limit"), database.read():
            pass
    database.dispose()


def test_the_clock_counts_seconds_whatever_the_sessions_time_zone_is(mariadb: MariaDb) -> None:
    database = Database.connect(mariadb.migrated_database())
    with database.read() as conn:
        for zone in ("+00:00", "+13:00", "-11:30"):
            conn.exec_driver_sql("SET time_zone = %s", (zone,))
            ours, theirs = (
                conn.execute(select(now())).scalar_one(),
                float(mariadb.sql("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0]),
            )
            assert abs(ours - theirs) < 2.0
        first, second = (conn.execute(select(now())).scalar_one() for _ in range(2))
    assert 0 < second - first < 1.0
    database.dispose()


def test_a_time_is_kept_to_the_microsecond(mariadb: MariaDb) -> None:
    database = Database.connect(mariadb.migrated_database())
    moment = 1790000000.123456
    values = {"id": "x", "created": moment, "single": 2}
    database.write(lambda conn: conn.execute(schema.deployment.insert().values(values)))
    with database.read() as conn:
        found = conn.execute(select(schema.deployment.c.created).where(schema.deployment.c.id == "x")).scalar_one()
    assert found == moment
    database.dispose()
