"""Commands on the embedded instance as a whole: up, down, status, demo."""

from __future__ import annotations

import argparse
from typing import Any

from cliff.lister import Lister

from tavia.cli.base import InstanceCommand


class Up(InstanceCommand):
    """Start Tavia on this machine and wait until its API answers.

    Makes what is missing: certificates, a SQLite database, a configuration, a cloud of network namespaces. Running it
    again changes nothing. After a crash it starts what is not running and leaves the amphorae alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--foreground", action="store_true", help="stay until Ctrl-C, which stops the services")
        parser.add_argument("--api-port", type=int, metavar="PORT", help="port of the API (default: 9876 or the next)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """See cliff."""
        from tavia.cli.up import stay, up  # noqa: PLC0415  slow to import, not needed for help

        embedded = self.embedded(parsed_args)
        supervisor = up(embedded, self.console, parsed_args.api_port)
        if supervisor and parsed_args.foreground:
            self.console.print("Ctrl-C stops the services; the amphorae carry on until [bold]tavia down[/].")
            return stay(supervisor)
        return 0


class Down(InstanceCommand):
    """Stop Tavia and remove everything that it made on this machine.

    Services, amphorae, networks, namespaces and files of this instance, also after a crash or kill -9 of any of them.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        from tavia.cli.down import down  # noqa: PLC0415  not needed for help

        down(self.embedded(parsed_args), self.console)


class Status(Lister, InstanceCommand):
    """Show the services, whether they run and how often they failed.

    A service that fails is started again after a pause, which doubles from failure to failure. Its log says why.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """See cliff."""
        from tavia.cli.status import COLUMNS, rows  # noqa: PLC0415  not needed for help

        return COLUMNS, rows(self.embedded(parsed_args))


class Demo(InstanceCommand):
    """Show a load balancer at work: two backends, a pair of amphorae, 100 requests and a picture.

    Everything is made through the API, in the network demo-net. Running it again reuses what is there.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        from tavia.cli.demo import run  # noqa: PLC0415  slow to import, not needed for help

        run(self.embedded(parsed_args), self.console)
