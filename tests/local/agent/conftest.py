"""One lab a test, removed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_lab import AgentHost, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def host(lab: Lab) -> AgentHost:
    """An amphora whose agent answers and holds nothing."""
    return lab.host().ready()
