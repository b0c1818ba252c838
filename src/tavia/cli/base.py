"""What commands have in common: ``--state-dir`` and a console; ``--config-file`` where they work on a database."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cliff.command import Command

from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from oslo_config import cfg
    from rich.console import Console

    from tavia.cli.embedded import Embedded
    from tavia.store.database import Database


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


class DatabaseCommand(InstanceCommand):
    """A command on one deployment's database, embedded or not.

    Which one: ``--config-file``; else the embedded instance, where there is one; else the services' own default file.
    Before cliff's classes among the bases, so that :meth:`run` is around theirs.
    """

    def run(self, parsed_args: argparse.Namespace) -> int:
        """As cliff's; a database that is away or refuses us is told in one line. Raises SeamError database-failed."""
        try:
            return int(super().run(parsed_args))
        except Exception as error:
            raise _told(error) from error

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--config-file",
            action="append",
            metavar="FILE",
            help="octavia.conf of the deployment, as its services are given it; may be repeated "
            "(default: the embedded instance's, where there is none /etc/octavia/octavia.conf)",
        )
        return parser

    def conf(self, parsed_args: argparse.Namespace) -> cfg.ConfigOpts:
        """Its configuration, with a database's URL. Raises SystemExit for mistakes in it, SeamError not-up."""
        from tavia import config  # noqa: PLC0415  slow to import, not needed for help

        files = parsed_args.config_file or self._default_files(parsed_args, config.DEFAULT_CONFIG_FILES)
        conf = config.load([word for path in files for word in ("--config-file", str(path))], "tavia", [])
        if not conf.database.connection:
            raise SystemExit(f"tavia: {', '.join(map(str, files))}: [database] connection is not set")
        return conf

    def database(self, parsed_args: argparse.Namespace) -> Database:
        """Its database. Raises what :meth:`conf` does, and SeamError schema-outdated."""
        from tavia.store.opening import open_database  # noqa: PLC0415  slow to import, not needed for help

        options = self.conf(parsed_args).database
        # Once: the services wait for a database, people don't.
        return open_database(options.connection, options, waits=False)

    def _default_files(self, parsed_args: argparse.Namespace, services_default: Sequence[str]) -> Sequence[Path]:
        embedded = self.embedded(parsed_args)
        installed = [path for path in map(Path, services_default) if path.exists() and parsed_args.state_dir is None]
        if embedded.config_file.exists() or not installed:
            embedded.check_configured()
            return [embedded.config_file]
        return installed


def _told(error: Exception) -> Exception:
    """A database's error by its first line, which has no password; any other as it is."""
    from oslo_db.exception import DBError  # noqa: PLC0415  slow to import, not needed for help
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    if not isinstance(error, DBError | SQLAlchemyError):
        return error
    message = f"the database of [database] connection does not do what it is asked: {str(error).splitlines()[0]}"
    return SeamError(Seam.CONTROL, "database-failed", message)


def who() -> str:
    """Whoever typed the command: before sudo, if it was."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def default_state_dir() -> Path:
    """``.tavia/state`` of the checkout that we stand in, at any depth; of the current directory when in none."""
    here = Path.cwd()
    home = next((parent for parent in (here, *here.parents) if (parent / ".tavia").is_dir()), here)
    return home / ".tavia" / "state"
