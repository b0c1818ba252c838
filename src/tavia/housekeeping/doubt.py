"""Whether it is certain enough that what no row names is nobody's. Pure.

A row comes before its server and is kept for days after it. So what is known of no server that stands is a database
that lost what it knew, sooner than a server too many: it was restored, or it is a copy, or the wrong one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tavia.cloud.protocols import Server
from tavia.store.orphan_removal import Past

MOST = 3
SHARE = 0.1
"""Servers that no row names, in number and of all that are ours: up to either is usual."""


def doubt(
    servers: int, orphans: Sequence[Server], never_known: Collection[str], past: Past, now: float, kept: float
) -> str | None:
    """Why nothing may be removed. ``servers``: how many are ours; ``orphans``: those that no row names.

    ``never_known``: ids of orphans whose amphora has no row at all, not even as deleted, though rows are ``kept`` for
    that many seconds; ``now`` is seconds since the epoch.
    """
    standing = [server for server in orphans if not server.busy]  # the others mostly are being deleted
    forgotten = [each for each in orphans if each.id in never_known and now - each.created_at < kept]
    older = [each for each in orphans if each.created_at < past.made]
    if past.went_back:
        return "a worker found the database to be older than what amphorae hold (journal: database-went-back)"
    if forgotten:
        return f"{_named(forgotten)}: so young that a row must name its amphora, and none ever did in this database"
    if older:
        return f"{_named(older)}: older than this database, which cannot know whose it is"
    if len(standing) > max(MOST, SHARE * servers):
        return f"{len(standing)} of {servers} servers are not known to this database, which is more than usual"
    return None


def _named(servers: Sequence[Server]) -> str:
    more = f" and {len(servers) - 1} more" if len(servers) > 1 else ""
    return f"server {servers[0].id}{more}"
