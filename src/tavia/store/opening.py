"""The database as a service opens it: only where its schema is this release's.

Without Alembic, which takes half a second to import: only :mod:`tavia.store.migrate` needs it.
"""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tavia.model.seams import Seam, SeamError
from tavia.store.database import Database, StoreUnreachable
from tavia.store.engine import Options, default_options

LOG = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(connection: str, options: Options | None = None, *, waits: bool = True) -> Database:
    """The database at this URL, refused where its schema is not this release's. Raises SeamError.

    ``options`` is the group [database]; without it, its defaults. A server that is not there yet is waited for, as
    ``max_retries`` and ``retry_interval`` say, unless ``waits`` is false.
    """
    options = options or default_options()
    database = Database.connect(connection, options)
    current = _awaited_revision(database, options) if waits else _revision(database)
    database.dispose()  # the caller may fork, and no connection may go along
    head = needed_revision()
    if current != head:
        raise SeamError(
            Seam.CONTROL,
            "schema-outdated",
            f"the database is at revision {current}, this release needs {head}: run tavia db upgrade",
            permanent=True,
        )
    return database


def _awaited_revision(database: Database, options: Options) -> str | None:
    attempts = itertools.count() if options.max_retries == -1 else range(options.max_retries)
    for attempt in attempts:
        try:
            return _revision(database)
        except StoreUnreachable as error:
            LOG.warning("%s; attempt %s, the next in %s s", error, attempt + 1, options.retry_interval)
            time.sleep(options.retry_interval)
    return _revision(database)


def _revision(database: Database) -> str | None:
    with database.read() as conn:
        return current_revision(conn)


def needed_revision() -> str:
    """Of the schema that this release has: the last of the migrations, whose files are named ``r<revision>_<what>``."""
    return max(file.name[1:5] for file in MIGRATIONS.glob("versions/r*.py"))


def current_revision(conn: Connection) -> str | None:
    """Of the schema that the database has; None where it has none."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
