"""An instance of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from instance_driver import Driver, driving


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with driving(tmp_path / "state") as made:
        yield made


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Driver]:
    """Another instance on the same machine."""
    with driving(tmp_path / "second") as made:
        yield made
