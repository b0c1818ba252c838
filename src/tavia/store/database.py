"""The database: engine, snapshots to read from, transactions that are repeated whole on conflict.

One rule for every writer: pass the whole transaction as a function. On a deadlock, a failed Galera certification or
SQLite's "database is locked" nothing of it happened, and it runs again with fresh reads.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import engines, exc_filters
from sqlalchemy import Connection, Engine, event, insert, make_url, select
from sqlalchemy.exc import OperationalError

from tavia.metrics import database as metrics
from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now

T = TypeVar("T")

ATTEMPTS = 10
LONGEST_PAUSE = 0.5
SQLITE_PRAGMAS = {"busy_timeout": "5000", "journal_mode": "WAL", "foreign_keys": "ON"}
"""The first in milliseconds, and first: the others may have to wait."""


class StoreBusy(SeamError):
    """A transaction met conflicts until its attempts were used up; nothing of it happened."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            Seam.CONTROL, "database-busy", f"the database refused a transaction {attempts} times; try again shortly"
        )


def create_engine(connection: str, *, sqlite_synchronous: bool = True, **oslo_db_options: Any) -> Engine:
    """An engine with oslo.db's error classes; for SQLite with WAL, foreign keys and BEGIN IMMEDIATE for writers.

    oslo.db would open a SQLite file anew for each transaction, which costs as much as the transaction, so that one
    engine is made without it.
    """
    if make_url(connection).get_backend_name() != "sqlite":
        engine: Engine = engines.create_engine(connection, **oslo_db_options)
        return engine
    engine = sqlalchemy.create_engine(connection, max_overflow=-1)
    exc_filters.register_engine(engine)  # type: ignore[no-untyped-call]
    pragmas = {**SQLITE_PRAGMAS, "synchronous": "FULL" if sqlite_synchronous else "OFF"}

    def prepare(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # the driver begins no transactions: _begin does
        for name, value in pragmas.items():
            dbapi_connection.execute(f"PRAGMA {name}={value}")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(conn: Connection) -> None:
    """A writer takes the lock first: a transaction that read and then writes would fail where another wrote."""
    conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("writer") else "BEGIN")


class Database:
    """What the services hold: reads from a snapshot, writes that survive conflicts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading: dict[str, Any] = {}
        self._writing: dict[str, Any] = {"writer": True}
        if engine.dialect.name != "sqlite":
            self._reading["isolation_level"] = "REPEATABLE READ"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot: everything read inside comes from the same moment."""
        try:
            with self.engine.connect().execution_options(**self._reading) as conn, conn.begin():
                yield conn
        except db_exception.DBConnectionError:
            metrics.CONNECTION_ERRORS.inc()
            raise

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, again as a whole on conflict. Raises StoreBusy, and what ``work`` raises."""
        for attempt in range(ATTEMPTS):
            try:
                with self.engine.connect().execution_options(**self._writing) as conn, conn.begin():
                    result = work(conn)
            except Exception as error:
                if not is_conflict(error):
                    metrics.ROLLED_BACK.inc()
                    raise
                is_away = isinstance(error, db_exception.DBConnectionError)
                (metrics.CONNECTION_ERRORS if is_away else metrics.CONFLICTS).inc()
                time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.01 * 2**attempt)))  # noqa: S311
            else:
                metrics.COMMITTED.inc()
                return result
        metrics.EXHAUSTED.inc()
        raise StoreBusy(ATTEMPTS)

    def deployment_id(self) -> str:
        """The id of this deployment, which cloud resources are tagged with; see :func:`tavia.store.migrate.upgrade`."""
        with self.read() as conn:
            return str(conn.execute(select(schema.deployment.c.id)).scalar_one())

    def age(self) -> float:
        """Seconds since this database was made (not since it was restored)."""
        with self.read() as conn:
            return float(conn.execute(select(now() - schema.deployment.c.created)).scalar_one())


def is_conflict(error: Exception) -> bool:
    """Whether a transaction failed only because another was there first."""
    if isinstance(error, db_exception.DBDeadlock | db_exception.DBConnectionError):
        return True
    cause = error.inner_exception if isinstance(error, db_exception.DBError) else error
    return isinstance(cause, OperationalError) and "locked" in str(cause)


def record_deployment(conn: Connection, deployment_id: str) -> None:
    """Name this deployment, once: the unique column refuses a second row."""
    conn.execute(insert(schema.deployment).values(id=deployment_id, created=now(), single=1))
