"""What commands on an embedded instance have in common: ``--state-dir`` and a console."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cliff.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from tavia.cli.embedded import Embedded


class InstanceCommand(Command):
    """A command that is told its instance by ``--state-dir``."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--state-dir",
            type=Path,
            metavar="DIR",
            help="where the instance keeps everything; each directory is an instance of its own "
            "(default: .tavia/state of the checkout you are in)",
        )
        return parser

    def embedded(self, parsed_args: argparse.Namespace) -> Embedded:
        """The instance that the command is about."""
        from tavia.cli.embedded import Embedded  # noqa: PLC0415  not needed for help

        return Embedded.of(parsed_args.state_dir or default_state_dir())

    @property
    def console(self) -> Console:
        """Where people read; plain text when it is no terminal."""
        from rich.console import Console  # noqa: PLC0415  not needed for help

        return Console(highlight=False)


def default_state_dir() -> Path:
    """``.tavia/state`` of the checkout that we stand in, at any depth; of the current directory when in none."""
    here = Path.cwd()
    home = next((parent for parent in (here, *here.parents) if (parent / ".tavia").is_dir()), here)
    return home / ".tavia" / "state"
