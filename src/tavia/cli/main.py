"""The ``tavia`` command. Its words are listed here and loaded when they are called, so that help is quick."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, version

from cliff.app import App
from cliff.commandmanager import CommandManager

COMMANDS = {
    "up": "tavia.cli.instance:Up",
    "down": "tavia.cli.instance:Down",
    "status": "tavia.cli.instance:Status",
    "demo": "tavia.cli.instance:Demo",
    "loadbalancer show": "tavia.cli.loadbalancer:ShowLoadBalancer",
    "loadbalancer release": "tavia.cli.loadbalancer:ReleaseLoadBalancer",
    "amphora list": "tavia.cli.amphora:ListAmphorae",
    "orphan list": "tavia.cli.orphan:ListOrphans",
    "orphan remove": "tavia.cli.orphan:RemoveOrphans",
    "operation list": "tavia.cli.operation:ListOperations",
    "operation show": "tavia.cli.operation:ShowOperation",
    "network list": "tavia.cli.network:ListNetworks",
    "network show": "tavia.cli.network:ShowNetwork",
    "network create": "tavia.cli.network:CreateNetwork",
    "network delete": "tavia.cli.network:DeleteNetwork",
    "service list": "tavia.cli.service:ListServices",
    "certs init": "tavia.cli.setup:InitCertificates",
    "db upgrade": "tavia.cli.setup:UpgradeDatabase",
    "doctor": "tavia.cli.doctor:Doctor",
}
"""What is typed -> the class that does it."""

DESCRIPTION = """Load balancing as a service for OpenStack. `tavia up` starts it on this machine, `tavia demo` shows it
at work; then use `openstack loadbalancer` as on any cloud. `tavia help COMMAND` explains one command."""


class Tavia(App):
    """The application."""

    NAME = "tavia"
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(self) -> None:
        commands = CommandManager()
        commands.commands |= {name: EntryPoint(name, value, "tavia.cli") for name, value in COMMANDS.items()}
        super().__init__(DESCRIPTION, version("tavia"), commands, deferred_help=True)
        del commands.commands["complete"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    return Tavia().run((sys.argv[1:] if argv is None else argv) or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
