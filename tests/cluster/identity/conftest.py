"""One Keystone and one memcached for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import memcached
import pytest
from keystone_server import Keystone


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    with Keystone(tmp_path_factory.mktemp("keystone")) as running:
        yield running


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[str]:
    with memcached.running() as server:
        yield server
