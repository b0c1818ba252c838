"""Each test has a local cloud of its own, which leaves nothing behind whatever the test did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cloud import LocalCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path / "state")
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.remove()
