"""Servers that tests in several folders use: one of each for a whole run, started when the first test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mariadb import Galera, MariaDb


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """One server. A test takes a database of its own from it."""
    server = MariaDb.start(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def galera_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galera]:
    cluster = Galera.start(tmp_path_factory.mktemp("galera"))
    yield cluster
    cluster.kill()


@pytest.fixture
def galera(galera_of_the_session: Galera) -> Galera:
    """Three nodes, all there. A test may kill or freeze nodes."""
    galera_of_the_session.heal()
    return galera_of_the_session
