"""A database of a test's own on a real MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mariadb import MariaDb


@pytest.fixture
def connection(mariadb: MariaDb) -> Iterator[str]:
    url = mariadb.migrated_database()
    yield url
    mariadb.drop_database(url)
