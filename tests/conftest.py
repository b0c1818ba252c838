"""Servers that tests in several folders use: one of each for a process of a run, started when the first test asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import memcached
import pytest
import side_by_side
import world
from keystone_server import Keystone
from mariadb import Galera, MariaDb
from rabbitmq import RabbitMQ

hypothesis.settings.register_profile("tavia", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("tavia")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", "mariadb"],
        default="sqlite",
        help="the database below tests that are about something else (those about the database run on both)",
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> side_by_side.SideBySide:
    return side_by_side.SideBySide(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "mariadb" in getattr(item, "fixturenames", ()) or "mariadb" in item.name:
            item.add_marker("large")
    if hasattr(config, "workerinput"):  # one of the processes of `pytest -n`
        items.sort(key=lambda item: side_by_side.rank(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def database_of_the_run(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--database") == "mariadb":
        world.mariadb = request.getfixturevalue("mariadb")


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


@pytest.fixture(scope="session")
def rabbitmq_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.close()


@pytest.fixture
def rabbitmq(rabbitmq_of_the_session: RabbitMQ) -> RabbitMQ:
    """One that runs. A test may stop, kill or pause it."""
    rabbitmq_of_the_session.heal()
    return rabbitmq_of_the_session


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """With users of every role. A test that stops it starts it again."""
    with Keystone(tmp_path_factory.mktemp("keystone")) as server:
        yield server


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[str]:
    """Its host and port."""
    with memcached.running() as server:
        yield server
