"""The commands of the operator's guide, to be run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "operator-guide.md"


def commands(heading: str) -> list[str]:
    """The commands below a heading, in their order."""
    section = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    fences = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line.removeprefix("# ") for fence in fences for line in fence.splitlines()]


def run(command: str, cwd: Path, places: Mapping[str, str], home: Path) -> None:
    """Run one in a shell, below ``cwd``; ``places`` are paths of the guide and where they are here."""
    for there, here in places.items():
        command = command.replace(there, here)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)}
    ran = subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
