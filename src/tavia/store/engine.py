"""The SQLAlchemy engine behind a :class:`~tavia.store.database.Database`, with oslo.db's options and error classes.

oslo.db would open a SQLite file anew for each transaction, which costs as much as the transaction, and on MariaDB send
a ROLLBACK after each COMMIT: so engines are made here, from the same options.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import sqlalchemy
from oslo_config import cfg
from oslo_db import options as database_options
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError

from tavia.model.seams import Seam, SeamError

SQLITE_PRAGMAS = {"busy_timeout": "5000", "journal_mode": "WAL", "foreign_keys": "ON"}
"""The first in milliseconds, and first: the others may have to wait."""

Options = cfg.ConfigOpts.GroupAttr
"""The group [database] of a configuration."""
Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "AUTOCOMMIT"]

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5, 30
"""Seconds that MariaDB may be silent, where the URL does not say: a server that froze answers nobody, for ever."""
LOCK_WAIT = 5
"""Seconds to wait for another transaction's lock."""


def default_options(**values: Any) -> Options:
    """The group [database] where no file says anything, but for ``values``."""
    conf = cfg.ConfigOpts()
    conf.register_opts(database_options.database_opts, group="database")
    for name, value in values.items():
        conf.set_override(name, value, group="database")
    options: Options = conf.database
    return options


def create_engine(
    connection: str,
    options: Options | None = None,
    *,
    isolation: Isolation = "READ COMMITTED",
    answer_timeout: int = ANSWER_TIMEOUT,
) -> Engine:
    """An engine for this URL. SQLite isolates better than asked. ``answer_timeout`` in seconds. Raises SeamError.

    ``options`` is the group [database]; without it, its defaults.
    """
    options = options or default_options()
    try:
        url = make_url(connection)
    except ArgumentError as error:
        message = "[database] connection is no URL such as mysql+pymysql://user:password@host/tavia?charset=utf8mb4"
        raise SeamError(Seam.CONTROL, "no-database", message, permanent=True) from error
    if options.connection_parameters:
        url = url.update_query_string(options.connection_parameters, append=True)
    if options.connection_debug:
        logging.getLogger("sqlalchemy.engine").setLevel(_log_level(options.connection_debug))
    engine = (
        _sqlite(url, options)
        if url.get_backend_name() == "sqlite"
        else _mariadb(url, options, isolation, answer_timeout)
    )
    exc_filters.register_engine(engine)  # type: ignore[no-untyped-call]
    return engine


def _log_level(connection_debug: int) -> int:
    if connection_debug == 100:  # noqa: PLR2004 - the option's highest value shows results too
        return logging.DEBUG
    return logging.INFO if connection_debug >= 50 else logging.WARNING  # noqa: PLR2004


def _sqlite(url: URL, options: Options) -> Engine:
    """WAL, foreign keys, and BEGIN IMMEDIATE for writers."""
    engine = sqlalchemy.create_engine(url, max_overflow=-1)
    pragmas = {**SQLITE_PRAGMAS, "synchronous": "FULL" if options.sqlite_synchronous else "OFF"}

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


def _mariadb(url: URL, options: Options, isolation: Isolation, answer_timeout: int) -> Engine:
    """Beside our statements a transaction costs a ping, which is no statement, and its COMMIT: not with AUTOCOMMIT."""
    defaults = {
        "charset": "utf8mb4",
        "connect_timeout": str(CONNECT_TIMEOUT),
        "read_timeout": str(answer_timeout),
        "write_timeout": str(answer_timeout),
    }
    url = url.set(query={**defaults, **url.query})
    pool = {
        "pool_size": options.max_pool_size,
        "max_overflow": options.max_overflow,
        "pool_timeout": options.pool_timeout,
        "pool_recycle": options.connection_recycle_time,
    }
    session = {
        "sql_mode": options.mysql_sql_mode,
        "wsrep_sync_wait": options.mysql_wsrep_sync_wait,
        "innodb_lock_wait_timeout": LOCK_WAIT,
    }
    engine = sqlalchemy.create_engine(
        url,
        isolation_level=isolation,
        pool_pre_ping=True,
        pool_reset_on_return=None,  # every transaction is ended by a context manager
        skip_autocommit_rollback=True,
        **{name: value for name, value in pool.items() if value is not None},
    )

    def prepare(dbapi_connection: Any, _record: object) -> None:
        with dbapi_connection.cursor() as cursor:
            for name, value in session.items():
                if value is not None:
                    cursor.execute(f"SET SESSION {name} = %s", [value])

    event.listen(engine, "connect", prepare)
    return engine
