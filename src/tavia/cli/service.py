"""``tavia service ...``: the processes of the deployment, wherever they run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from tavia.cli.base import DatabaseCommand
from tavia.cli.columns import State, When
from tavia.cli.operation import is_coloured

if TYPE_CHECKING:
    from tavia.store.services import Known

COLUMNS = ("service", "host", "state", "since", "last_seen", "version", "configuration", "stands_out")
COLOURS = {"up": "green", "down": "red"}


class ListServices(DatabaseCommand, Lister):
    """List the services of the deployment, whether they are up, and what stands out.

    A service is down when it has said nothing for [tavia] service_down_time. One that was stopped in an orderly way is
    not listed. Groups of octavia.conf are named in which a service differs from most others. Times are UTC.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff."""
        from tavia.store import orphan_removal, services  # noqa: PLC0415  slow to import, not needed for help

        down_time = self.conf(parsed_args).tavia.service_down_time
        with self.database(parsed_args).read() as conn:
            known = services.known(conn)
            stopped = orphan_removal.stopped(conn)
        up = [service for service in known if service.silent_for <= down_time]
        differing = services.differing_groups(up)
        versions = services.outsiders({service.id: service.version for service in up})
        coloured = is_coloured(self.console)
        return COLUMNS, [
            _row(
                service,
                "up" if service.id in differing else "down",
                "; ".join(
                    _standing_out(
                        differing.get(service.id, ()),
                        service.id in versions,
                        stopped if service.name == "tavia-housekeeping" else None,
                    )
                ),
                coloured,
            )
            for service in known
        ]


def _row(service: Known, state: str, stands_out: str, coloured: bool) -> Sequence[Any]:
    return (
        service.name,
        service.host,
        State(state, coloured, COLOURS),
        When(service.started),
        When(service.seen),
        service.version,
        service.config_hash,
        stands_out,
    )


def _standing_out(differing: Sequence[str], has_other_version: bool, stopped: str | None) -> Iterator[str]:
    if has_other_version:
        yield "other version"
    if stopped:
        yield f"orphans are not removed: {stopped}"
    if differing:
        yield f"configuration differs in {', '.join(f'[{group}]' for group in differing)}"
