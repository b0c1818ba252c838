"""The database: engine, snapshots to read from, transactions that are repeated whole on conflict.

One rule for every writer: pass the whole transaction as a function. Where another was there first (deadlock, failed
Galera certification, SQLite's "database is locked") or the connection broke, it runs again with fresh reads.
:mod:`tavia.store.once` tells how it still happens only once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from oslo_db import exception as db_exception
from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from tavia.metrics import database as metrics
from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now
from tavia.store.engine import ANSWER_TIMEOUT, Options, create_engine, default_options
from tavia.store.once import CommittedBefore, Run

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which a transaction is not begun again."""
LONGEST_PAUSE = 0.5

PASSING = {
    1020: "record has changed since last read",
    1040: "too many connections",
    1047: "Galera node is not ready, or outside of the primary component",
    1053: "server shutdown in progress",
    1180: "error during COMMIT",
    1205: "lock wait timeout",
    1213: "deadlock, or failed certification",
    1317: "query was interrupted",
    1927: "connection was killed",
}
"""MariaDB's errors after which the same transaction may go well, beside those in which oslo.db sees a lost connection.
oslo.db knows some of these by the class that older drivers raised."""


class StoreBusy(SeamError):
    """A transaction met conflicts until its time was used up; nothing of it happened."""

    def __init__(self, error: Exception) -> None:
        message = "the database did not take a transaction; try again shortly"
        super().__init__(Seam.CONTROL, "database-busy", message, detail=_short(error))


class StoreUnreachable(SeamError):
    """The database cannot be read now."""

    def __init__(self, error: Exception) -> None:
        message = "the database does not answer; try again shortly"
        super().__init__(Seam.CONTROL, "database-unreachable", message, detail=_short(error))


class OutcomeUnknown(SeamError):
    """The connection broke during COMMIT, and the database did not tell since whether it was done."""

    def __init__(self, error: Exception) -> None:
        message = "the database was lost in a COMMIT: look whether it was done, then try again"
        super().__init__(Seam.CONTROL, "outcome-unknown", message, detail=_short(error))


class Database:
    """What the services hold: reads from a snapshot, writes that survive conflicts."""

    def __init__(self, engine: Engine, snapshots: Engine, queries: Engine) -> None:
        self.engine, self.snapshots, self.queries = engine, snapshots, queries

    @classmethod
    def connect(
        cls, connection: str, options: Options | None = None, *, answer_timeout: int = ANSWER_TIMEOUT
    ) -> Database:
        """The database at this URL. ``options`` is the group [database]; without it, its defaults. Raises SeamError.

        On MariaDB writers, readers, and who reads by one statement have pools of their own. What is read together comes
        from one moment. A writer sees at each statement what is committed then: having waited for a lock, it must not
        check what was before.
        """
        options = options or default_options()
        engine = create_engine(connection, options, answer_timeout=answer_timeout)
        if engine.dialect.name == "sqlite":
            return cls(engine, engine, engine)
        snapshots, queries = (
            create_engine(connection, options, isolation=isolation, answer_timeout=answer_timeout)
            for isolation in ("REPEATABLE READ", "AUTOCOMMIT")
        )
        return cls(engine, snapshots, queries)

    def dispose(self) -> None:
        """Close the connections that nobody uses; others are made when asked for."""
        for engine in {self.engine, self.snapshots, self.queries}:
            engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot: everything read inside comes from the same moment. Raises StoreUnreachable."""
        with _readable(), _transaction(self.snapshots) as conn:
            yield conn

    @contextmanager
    def query(self) -> Iterator[Connection]:
        """For one statement that reads: as :meth:`read`, without a transaction and its COMMIT."""
        with _readable(), self.queries.connect() as conn:
            yield conn

    def write(self, work: Callable[[Connection], T], *, in_snapshot: bool = False) -> T:
        """Run ``work`` in one transaction, again as a whole on conflict.

        ``in_snapshot``: all that it reads comes from one moment, as in :meth:`read`; that is after its first write
        where this comes first. Raises StoreBusy, OutcomeUnknown, and what ``work`` raises.
        """
        began, run, engine = time.monotonic(), Run(), self.snapshots if in_snapshot else self.engine
        unsure: dict[int, T] = {}
        while True:
            finished: dict[int, T] = {}
            try:
                with _transaction(engine, writer=True, run=run) as conn:
                    finished[run.number] = work(conn)
                metrics.COMMITTED.inc()
                return finished[run.number]
            except CommittedBefore as proof:
                metrics.COMMITTED.inc()
                return unsure[proof.run]
            except Exception as error:
                if not is_passing(error):
                    metrics.ROLLED_BACK.inc()
                    if unsure:
                        raise OutcomeUnknown(error) from error
                    raise
                is_away = isinstance(error, db_exception.DBConnectionError)
                (metrics.CONNECTION_ERRORS if is_away else metrics.CONFLICTS).inc()
                if not isinstance(error, db_exception.DBDeadlock):  # after which nothing of it is there
                    unsure |= finished
                if time.monotonic() - began > PATIENCE:
                    metrics.EXHAUSTED.inc()
                    raise (OutcomeUnknown if unsure else StoreBusy)(error) from error
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.01 * 2 ** min(run.number, 6))))  # noqa: S311
            run = Run(run.transaction, run.number + 1, is_sure=not unsure)

    def deployment_id(self) -> str:
        """The id of this deployment, which cloud resources are tagged with; see :func:`tavia.store.migrate.upgrade`."""
        with self.query() as conn:
            return str(conn.execute(select(schema.deployment.c.id)).scalar_one())

    def age(self) -> float:
        """Seconds since this database was made (not since it was restored)."""
        with self.query() as conn:
            return float(conn.execute(select(now() - schema.deployment.c.created)).scalar_one())


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_passing(error):
            metrics.CONNECTION_ERRORS.inc()
            raise StoreUnreachable(error) from error
        raise


@contextmanager
def _transaction(engine: Engine, **options: Any) -> Iterator[Connection]:
    """Committed at the end of the block, rolled back where that raises.

    A COMMIT that was refused may leave it open, and SQLAlchemy sends no ROLLBACK then: the connection is given up.
    """
    with engine.connect().execution_options(**options) as conn:
        is_whole = False
        try:
            with conn.begin():
                yield conn
                is_whole = True
        except BaseException:
            if is_whole:
                conn.invalidate()
            raise


def is_passing(error: Exception) -> bool:
    """Whether a transaction failed for a reason that passes: another was there first, or the connection broke."""
    if isinstance(error, db_exception.DBDeadlock | db_exception.DBConnectionError | PoolExhausted):
        return True
    cause = error.inner_exception if isinstance(error, db_exception.DBError) else error
    if not isinstance(cause, DBAPIError) or cause.orig is None:
        return False
    return cause.connection_invalidated or (cause.orig.args or (None,))[0] in PASSING or "locked" in str(cause.orig)


def _short(error: Exception) -> str:
    cause = error.inner_exception if isinstance(error, db_exception.DBError) else error
    return str(cause.orig if isinstance(cause, DBAPIError) else cause)[:200]


def record_deployment(conn: Connection, deployment_id: str) -> None:
    """Name this deployment, once: the unique column refuses a second row."""
    conn.execute(insert(schema.deployment).values(id=deployment_id, created=now(), single=1))
