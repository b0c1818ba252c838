"""Bring a database to this release's schema. ``tavia db upgrade`` and ``tavia up`` call it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.schema import AddConstraint

from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.database import Database, record_deployment
from tavia.store.engine import Options
from tavia.store.opening import MIGRATIONS

CHARSET, COLLATION = "utf8mb4", "utf8mb4_nopad_bin"
"""Names and ids are compared as they are, as on SQLite: case, accents and spaces at the end count."""

UPGRADE_PATIENCE = 600
"""Seconds to wait for another ``tavia db upgrade``, and for a statement of our own."""


def alembic_config() -> Config:
    """Where the migrations stand; the connection goes into its attributes."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(connection: str, options: Options | None = None) -> None:
    """Run what migrations are missing on the database at this URL, and name the deployment if it has no name yet.

    Safe to run again after it failed, and while another does the same on the same server. Raises SeamError.
    """
    database = Database.connect(connection, options, answer_timeout=UPGRADE_PATIENCE)
    config = alembic_config()
    with database.engine.connect().execution_options(writer=True) as conn, conn.begin(), _alone(conn):
        if conn.dialect.name != "sqlite":
            _compare_strings_exactly(conn)
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
    with database.read() as conn:
        named = conn.execute(select(schema.deployment.c.id)).first()
    if not named:
        database.write(lambda conn: record_deployment(conn, str(uuid.uuid4())))
    database.dispose()


@contextmanager
def _alone(conn: Connection) -> Iterator[None]:
    """One upgrade at a time. SQLite's lock came with the transaction, MariaDB's belongs to one server."""
    if conn.dialect.name == "sqlite":
        yield
        return
    name = {"name": f"tavia-db-upgrade {conn.engine.url.database}"[:64]}
    if not conn.execute(text(f"SELECT GET_LOCK(:name, {UPGRADE_PATIENCE - 10})"), name).scalar():
        raise SeamError(Seam.CONTROL, "upgrade-under-way", "another tavia db upgrade runs on this database for long")
    try:
        yield
    finally:
        conn.execute(text("DO RELEASE_LOCK(:name)"), name)


def _compare_strings_exactly(conn: Connection) -> None:
    """Give the database and the tables in it our collation: the first release took the server's default."""
    name = conn.execute(text("SELECT DATABASE()")).scalar_one()
    preparer = conn.dialect.identifier_preparer
    form = f"CHARACTER SET {CHARSET} COLLATE {COLLATION}"
    tables = text(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = :name AND table_collation <> :ours"
    )
    others = conn.execute(tables, {"name": name, "ours": COLLATION}).scalars().all()
    conn.execute(text(f"ALTER DATABASE {preparer.quote(name)} {form}"))
    if others:
        for table, keys in _foreign_keys(conn).items():  # MariaDB changes no column that is part of one
            for key in keys:
                conn.execute(
                    text(f"ALTER TABLE {preparer.quote(table)} DROP FOREIGN KEY {preparer.quote(key['name'])}")
                )
        for table in others:
            conn.execute(text(f"ALTER TABLE {preparer.quote(table)} CONVERT TO {form}"))
    _restore_foreign_keys(conn)


def _restore_foreign_keys(conn: Connection) -> None:
    """Those that are declared, of columns that are there: also what a run left out that ended half-way."""
    there = _foreign_keys(conn)
    inspector = inspect(conn)
    for name in there:
        columns = {column["name"] for column in inspector.get_columns(name)}
        held = {tuple(key["constrained_columns"]) for key in there[name]}
        declared = schema.metadata.tables[name].foreign_key_constraints if name in schema.metadata.tables else ()
        for constraint in declared:
            if columns.issuperset(constraint.column_keys) and tuple(constraint.column_keys) not in held:
                conn.execute(AddConstraint(constraint, isolate_from_table=False))


def _foreign_keys(conn: Connection) -> Mapping[str, Sequence[Any]]:
    """By table, each table among them."""
    inspector = inspect(conn)
    return {name: inspector.get_foreign_keys(name) for name in inspector.get_table_names()}
