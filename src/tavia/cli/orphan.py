"""``tavia orphan ...``: what is Tavia's in the cloud and belongs to nobody in the database."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from tavia.cli.base import DatabaseCommand, who
from tavia.cli.columns import When, Word
from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from tavia.cloud.protocols import Cloud
    from tavia.housekeeping.orphans import Found
    from tavia.store.database import Database

COLUMNS = ("kind", "id", "amphora", "loadbalancer", "created")
GONE_WITHIN = 120.0
POLL = 1.0
"""Seconds that compute gets to remove servers, and between two looks."""


class OrphanCommand(DatabaseCommand):
    """A command on a database and its cloud."""

    def look(self, parsed_args: argparse.Namespace) -> tuple[Database, Cloud, Found]:
        """Compare the two. Raises SeamError."""
        from tavia.cloud import connect  # noqa: PLC0415  slow to import, not needed for help
        from tavia.housekeeping import orphans  # noqa: PLC0415

        database, cloud = self.database(parsed_args), connect(self.conf(parsed_args))
        return database, cloud, orphans.find(database, cloud)


class ListOrphans(OrphanCommand, Lister):
    """List what is in the cloud, is tagged as this deployment's, and belongs to no row of its database.

    Housekeeping removes each when it has known it for [tavia] orphan_grace, but nothing where it doubts that the
    database knows all: then this command says why. What is being made or removed just now may be listed too.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff."""
        from tavia.store import orphan_removal  # noqa: PLC0415  slow to import, not needed for help

        database, _, found = self.look(parsed_args)
        with database.read() as conn:
            stopped = orphan_removal.stopped(conn)
        if stopped:
            sys.stderr.write(f"tavia: nothing of this is removed: {stopped}\n")
        created = {server.id: server.created_at for server in found.servers}
        return COLUMNS, [
            (each.kind, each.id, Word(each.amphora_id), Word(each.loadbalancer_id), When(created.get(each.id)))
            for each in found.orphans
        ]


class RemoveOrphans(OrphanCommand):
    """Remove servers that tavia orphan list shows, at once: it is you who knows that nobody needs them.

    With --all housekeeping may remove orphans again where it had stopped for doubt. Ports and groups are left to it:
    they may be somebody's who is just being made.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("servers", metavar="SERVER", nargs="*", default=[], help="ids as tavia orphan list has them")
        which.add_argument("--all", action="store_true", help="all of them; housekeeping goes on")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff. Raises SeamError: no-orphan, orphans-remain, what the cloud answers."""
        database, cloud, found = self.look(parsed_args)
        there = {server.id for server in found.orphaned_servers}
        if others := sorted(set(parsed_args.servers) - there):
            message = f"no server that belongs to nobody: {', '.join(others)}. See tavia orphan list"
            raise SeamError(Seam.CONTROL, "no-orphan", message)
        chosen = there if parsed_args.all else set(parsed_args.servers)
        for server_id in sorted(chosen):
            cloud.compute.delete(server_id)
        if remain := _remaining(cloud, found, chosen):
            message = f"compute still has these servers: {', '.join(remain)}. Look at them, then type this again"
            raise SeamError(Seam.BOOT, "orphans-remain", message)
        if parsed_args.all:
            _allow(database)
        goes_on = "; housekeeping removes what other orphans there are" if parsed_args.all else ""
        self.console.print(f"Servers removed: {len(chosen)}{goes_on}.", soft_wrap=True)


def _remaining(cloud: Cloud, found: Found, removed: Collection[str]) -> list[str]:
    """Those of the removed servers that compute still lists, and does nothing about, when its time is up."""
    until = time.monotonic() + GONE_WITHIN
    while removed and (remain := [s.id for s in cloud.compute.servers(found.tags) if s.id in removed and not s.busy]):
        if time.monotonic() > until:
            return remain
        time.sleep(POLL)
    return []


def _allow(database: Database) -> None:
    from tavia.store import journal, orphan_removal  # noqa: PLC0415  slow to import, not needed for help

    host = socket.gethostname()
    said = SeamError(Seam.CONTROL, "asked-by-operator", f"asked for by {who()} on {host}")
    what, nobody = orphan_removal.ALLOWED, orphan_removal.OF_NO_LOADBALANCER
    database.write(lambda conn: journal.event(conn, loadbalancer_id=nobody, what=what, failure=said, host=host))
