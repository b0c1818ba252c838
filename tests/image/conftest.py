"""The amphora image, made if need be, and one guest at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_lab import IMAGE, REPOSITORY, ImageLab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.image)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def image() -> None:
    """As `make image` leaves it."""
    environment = {**os.environ, "VENV": sys.prefix}
    subprocess.run([REPOSITORY / "deploy" / "image" / "build", IMAGE], env=environment, check=True)


@pytest.fixture
def lab(image: None, tmp_path: Path) -> Iterator[ImageLab]:
    lab = ImageLab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()
