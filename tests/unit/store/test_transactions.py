"""A transaction that meets a conflict runs again as a whole; one that never gets through says so."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from oslo_db import exception as db_exception
from sqlalchemy import Connection, insert, select, update

from tavia.model.seams import SeamError
from tavia.store import database as database_module
from tavia.store import migrate, schema
from tavia.store.clock import now
from tavia.store.database import Database, StoreBusy
from tavia.store.opening import open_database


def row(key: str) -> dict[str, object]:
    return {
        "listener_id": key,
        "amphora_id": "a",
        "loadbalancer_id": "l",
        "bytes_in": 0,
        "bytes_out": 0,
        "active_connections": 0,
        "total_connections": 0,
        "request_errors": 0,
    }


def keys(database: Database) -> set[str]:
    with database.read() as conn:
        return set(conn.execute(select(schema.listener_statistics.c.listener_id)).scalars())


def test_after_a_deadlock_the_whole_transaction_runs_again(database: Database) -> None:
    attempts = []

    def work(conn: Connection) -> str:
        attempts.append(1)
        conn.execute(insert(schema.listener_statistics).values(row(f"attempt {len(attempts)}")))
        if len(attempts) < 3:
            raise db_exception.DBDeadlock
        return "done"

    assert database.write(work) == "done"
    assert keys(database) == {"attempt 3"}


def test_a_conflict_without_end_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PATIENCE", 0.1)

    def work(_conn: Connection) -> None:
        raise db_exception.DBDeadlock

    with pytest.raises(StoreBusy):
        database.write(work)


def test_a_writer_waits_for_another_process_instead_of_failing(database: Database) -> None:
    counter = schema.listener_statistics.c.bytes_in
    one_more = update(schema.listener_statistics).values(bytes_in=counter + 1)
    database.write(lambda conn: conn.execute(insert(schema.listener_statistics).values(row("listener"))))
    other = database.engine.connect().execution_options(writer=True)
    transaction = other.begin()
    other.execute(one_more)
    timer = threading.Timer(0.3, transaction.commit)
    timer.start()
    database.write(lambda conn: conn.execute(one_more))
    timer.join()
    other.close()
    with database.read() as conn:
        assert conn.execute(select(counter)).scalar_one() == 2


def test_any_other_error_is_not_retried(database: Database) -> None:
    attempts = []

    def work(_conn: Connection) -> None:
        attempts.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        database.write(work)
    assert len(attempts) == 1


def test_what_is_read_together_comes_from_one_moment(database: Database) -> None:
    with database.read() as conn:
        before = conn.execute(select(schema.listener_statistics.c.listener_id)).all()
        database.write(lambda other: other.execute(insert(schema.listener_statistics).values(row("new"))))
        assert conn.execute(select(schema.listener_statistics.c.listener_id)).all() == before
    assert keys(database) == {"new"}


def test_the_databases_clock_has_fractions_and_moves(database: Database) -> None:
    with database.read() as conn:
        first = conn.execute(select(now())).scalar_one()
    with database.read() as conn:
        assert conn.execute(select(now())).scalar_one() >= first > 1.7e9
    assert first != int(first)


def test_the_migrations_make_the_tables_of_the_model(database: Database) -> None:
    with database.engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []


def test_a_database_that_was_never_upgraded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeamError, match="tavia db upgrade"):
        open_database(f"sqlite:///{tmp_path / 'empty.sqlite'}")


def test_upgrading_again_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'twice.sqlite'}"
    migrate.upgrade(url)
    deployment = open_database(url).deployment_id()
    migrate.upgrade(url)
    assert open_database(url).deployment_id() == deployment
