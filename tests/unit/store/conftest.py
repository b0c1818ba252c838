from pathlib import Path

import pytest
from world import fresh_database

from tavia.store.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return fresh_database(tmp_path)
