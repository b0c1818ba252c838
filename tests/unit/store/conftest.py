from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_stand import Stand
from world import fresh_database

from tavia.store.database import Database


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    server = request.getfixturevalue("mariadb") if request.param == "mariadb" else None
    database = fresh_database(tmp_path, server)
    yield database
    database.dispose()
    if server:
        server.give_back(str(database.engine.url))


@pytest.fixture
def make_stand(database: Database) -> Callable[[], Stand]:
    return lambda: Stand.made(database)


@pytest.fixture
def stand(database: Database) -> Stand:
    return Stand.made(database)
