"""docs/install-openstack.md, whose commands are run as they stand there, in one shell."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
GUIDE = CHECKOUT / "docs" / "install-openstack.md"


@dataclass(frozen=True)
class Block:
    """Commands below a heading. ``kind``: the word beside console, for what not everybody types."""

    heading: str
    kind: str
    commands: Sequence[str]


def blocks() -> Iterator[Block]:
    """All of the guide, in its order."""
    for part in re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        for kind, text in re.findall(r"^```console ?(\w*)\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL):
            yield Block(heading, kind, [re.sub(r"^[#$] ", "", line) for line in text.splitlines()])


class Shell:
    """A bash that remembers what earlier commands set; what fails is raised with all that it said."""

    def __init__(self, environment: Mapping[str, str], substitutions: Sequence[tuple[str, str]]) -> None:
        self._substitutions = substitutions
        self._mark = secrets.token_hex(8)
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=CHECKOUT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def here(self, command: str) -> str:
        """A command of the guide, with the names and places that it has here."""
        for pattern, replacement in self._substitutions:
            command = re.sub(pattern, replacement, command)
        return command

    def run(self, command: str) -> str:
        """What it prints. Raises AssertionError where it fails."""
        status, said = self.try_out(command)
        assert status == 0, f"{self.here(command)}: exit status {status}\n{said}"
        return said

    def try_out(self, command: str) -> tuple[int, str]:
        """Its exit status, and what it prints."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{self.here(command)} < /dev/null\nprintf '\\n{self._mark} %d\\n' $?\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(self._mark):
                return int(line.split()[1]), "".join(lines).strip()
            lines.append(line)
        raise AssertionError(f"the shell ended in {self.here(command)}: {''.join(lines)}")

    def close(self) -> None:
        """End it."""
        self._bash.kill()
        self._bash.wait()
