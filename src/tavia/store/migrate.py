"""Bring a database to this release's schema. ``tavia db upgrade`` and ``tavia up`` call it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select

from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.database import Database, create_engine, record_deployment


def alembic_config() -> Config:
    """Where the migrations stand; the connection goes into its attributes."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(connection: str) -> None:
    """Run what migrations are missing on the database at this URL, and name the deployment if it has no name yet."""
    database = Database(create_engine(connection))
    config = alembic_config()
    with database.engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
    with database.read() as conn:
        named = conn.execute(select(schema.deployment.c.id)).first()
    if not named:
        database.write(lambda conn: record_deployment(conn, str(uuid.uuid4())))
    database.engine.dispose()


def open_database(connection: str, **oslo_db_options: Any) -> Database:
    """The database at this URL, refused where its schema is not this release's. Raises SeamError."""
    database = Database(create_engine(connection, **oslo_db_options))
    with database.engine.connect() as conn:
        current = MigrationContext.configure(conn).get_current_revision()
    database.engine.dispose()  # the caller may fork, and no connection may go along
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if current != head:
        raise SeamError(
            Seam.CONTROL,
            "schema-outdated",
            f"the database is at revision {current}, this release needs {head}: run tavia db upgrade",
            permanent=True,
        )
    return database
