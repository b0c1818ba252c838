"""Commands that prepare an installation: certificates and database."""

from __future__ import annotations

import argparse
from pathlib import Path

from cliff.command import Command

from tavia.cli.base import DatabaseCommand


class InitCertificates(Command):
    """Make the two certificate authorities and a controller's certificate.

    One authority signs amphora certificates, the other controller certificates, so that no amphora can command
    another. What is there already is left alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("directory", type=Path, help="where the files go, such as /etc/octavia/certs")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        from tavia import pki  # noqa: PLC0415  slow to import, not needed for help

        pki.init(parsed_args.directory)


class UpgradeDatabase(DatabaseCommand):
    """Bring the database to this release's schema.

    Run it once before the services of a new release start; running it again changes nothing.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        from tavia.store import migrate  # noqa: PLC0415  slow to import, not needed for help

        options = self.conf(parsed_args).database
        migrate.upgrade(options.connection, options)
