"""deploy/image/build's command line; tests/image has the image."""

from __future__ import annotations

import subprocess
from pathlib import Path

BUILD = Path(__file__).parents[3] / "deploy" / "image" / "build"


def test_an_unknown_option_is_refused_and_no_folder_is_made_of_its_value(tmp_path: Path) -> None:
    done = subprocess.run([BUILD, "-m", "smoke"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "not -m" in done.stderr) == (2, True)
    assert not (BUILD.parents[2] / "smoke").exists()


def test_what_the_tests_are_told_is_not_told_to_the_build_of_the_image() -> None:
    for target in ("test-cloud", "test-image", "bench-cloud", "image-upload"):
        planned = subprocess.run(
            ["make", "--dry-run", "--no-print-directory", target, "ARGS=-m smoke"],
            cwd=BUILD.parents[2], capture_output=True, text=True, check=True,
        )  # fmt: skip
        built = [line for line in planned.stdout.splitlines() if "deploy/image/build" in line]
        assert [line.split() for line in built] == [["deploy/image/build"]]
