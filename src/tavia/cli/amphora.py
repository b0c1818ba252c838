"""``tavia amphora ...``: the amphorae of the deployment, and which of them boot from an image that was replaced."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from tavia.cli.base import DatabaseCommand
from tavia.cli.columns import Named, Word
from tavia.model.seams import SeamError

if TYPE_CHECKING:
    from oslo_config import cfg

    from tavia.store.amphorae import Listed

COLUMNS = ("id", "loadbalancer", "role", "status", "lb_network_ip", "image_id", "agent_version", "outdated")


class ListAmphorae(DatabaseCommand, Lister):
    """List the amphorae, the version of their agents, and whether a newer image has the tag.

    An amphora is outdated when its image is not the newest one with the tag that its load balancer boots from. To
    replace one by one of the newest image: openstack loadbalancer amphora failover ID.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--outdated", action="store_true", help="only those that are outdated")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff. With --outdated raises what the cloud answers when it does not tell the newest image."""
        from tavia.store import amphorae  # noqa: PLC0415  slow to import, not needed for help

        with self.database(parsed_args).read() as conn:
            listed = amphorae.listed(conn)
        try:
            newest = _newest_images(self.conf(parsed_args), {each.image_tag for each in listed})
        except SeamError as error:
            if parsed_args.outdated:
                raise
            sys.stderr.write(f"tavia: which image is the newest is not known: {error}\n")
            newest = {}
        rows = [(each, is_outdated(each.amphora.image_id, newest.get(each.image_tag))) for each in listed]
        return COLUMNS, [_row(*row) for row in rows if row[1] or not parsed_args.outdated]


def is_outdated(image_id: str | None, newest: str | None) -> bool | None:
    """None where it is not known: the cloud has no images or did not tell, or the amphora has not booted yet."""
    return None if None in (image_id, newest) else image_id != newest


def _newest_images(conf: cfg.ConfigOpts, tags: Collection[str | None]) -> dict[str | None, str | None]:
    """By the tag that a load balancer boots from; None stands for the one that is configured."""
    from tavia.cloud import connect  # noqa: PLC0415  slow to import, not needed for help

    worker, images = conf.controller_worker, connect(conf).images
    return {tag: images.image_id(tag or worker.amp_image_tag, worker.amp_image_owner_id) for tag in tags}


def _row(listed: Listed, outdated: bool | None) -> Sequence[Any]:
    amphora = listed.amphora
    return (
        amphora.id,
        Named(amphora.loadbalancer_id or "", listed.loadbalancer_name),
        Word(amphora.role),
        str(amphora.status),
        Word(amphora.lb_network_ip),
        Word(amphora.image_id),
        Word(listed.agent_version),
        Word({None: None, True: "yes", False: "no"}[outdated]),
    )
