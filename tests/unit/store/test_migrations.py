"""The migrations lead to what the model declares, and may be run again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from tavia.model.seams import SeamError
from tavia.store.migrate import upgrade
from tavia.store.opening import open_database
from tavia.store.schema import metadata


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    path = tmp_path / "tavia.sqlite"
    upgrade(f"sqlite:///{path}")
    return path


def test_migrations_make_the_schema_that_the_model_declares(database_file: Path) -> None:
    database = open_database(f"sqlite:///{database_file}")
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_second_upgrade_keeps_the_deployments_name(database_file: Path) -> None:
    before = open_database(f"sqlite:///{database_file}").deployment_id()
    upgrade(f"sqlite:///{database_file}")
    assert open_database(f"sqlite:///{database_file}").deployment_id() == before


def test_a_database_of_another_release_is_refused_with_the_way_on(database_file: Path) -> None:
    with sqlite3.connect(database_file) as connection:
        connection.execute("update alembic_version set version_num = '0000'")
    with pytest.raises(SeamError, match="tavia db upgrade"):
        open_database(f"sqlite:///{database_file}")


def test_an_opened_database_has_no_connection_yet_that_a_fork_would_share(database_file: Path) -> None:
    database = open_database(f"sqlite:///{database_file}")
    assert database_file not in [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    assert database.deployment_id()
