"""One instance for all tests here; a test that fails shows its logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from instance import Instance, running


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("service") / "s") as made:
        yield made


@pytest.fixture
def instance(whole: Instance, request: pytest.FixtureRequest) -> Iterator[Instance]:
    """The shared instance, its members well."""
    for member in whole.members.values():
        member.healthy = True
        member.finish.clear()
    failed_before = request.session.testsfailed
    yield whole
    if request.session.testsfailed > failed_before:
        print(whole.logs())
