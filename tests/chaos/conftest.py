"""One instance for all tests here, in which a dead worker's work is taken over after two seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from instance import Instance, running


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("chaos") / "s") as made:
        made.configure("tavia", lease_ttl="2")
        made.restart("tavia-worker")
        yield made


@pytest.fixture
def instance(whole: Instance, request: pytest.FixtureRequest) -> Iterator[Instance]:
    failed_before = request.session.testsfailed
    yield whole
    if request.session.testsfailed > failed_before:
        print(whole.logs())
