"""Real namespaces for rendered configurations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_plane import Lab, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.fail("namespaces need root")
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)  # HAProxy's worker is not root
    lab = Lab(tmp_path)
    try:
        yield World(lab)
    finally:
        lab.close()
