from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

from tavia import pki
from tavia.model.statuses import Topology
from tavia.pki import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("pki")
    pki.init(directory)
    return Authority.load(directory / pki.SERVER_CA, directory / pki.SERVER_CA_KEY, None)


@pytest.fixture
def make_world(tmp_path: Path, authority: Authority) -> Callable[..., World]:
    def make(topology: Topology = Topology.SINGLE) -> World:
        return World(tmp_path, authority, topology)

    return make
