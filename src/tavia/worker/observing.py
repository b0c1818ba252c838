"""What the holder of a lease reads: never a state from before its lease was taken or its last write was committed.

Reads and writes of one worker may go through different nodes of a Galera cluster, where a commit shows on the others a
moment later. Whoever planned from such a state would boot the same amphora twice.
"""

from __future__ import annotations

import time

from tavia.model.seams import Seam, SeamError
from tavia.store.database import Database
from tavia.store.leases import Lease
from tavia.store.trees import Observed, observe

CATCH_UP = 5.0
"""Seconds for a node of the database to see what another one has committed."""
_POLL = 0.01


class NodeBehind(SeamError):
    """A node of the database does not see in time what was committed through another."""

    def __init__(self) -> None:
        message = f"a node of the database is more than {CATCH_UP:.0f} s behind the others: look at its wsrep state"
        super().__init__(Seam.CONTROL, "database-node-behind", message)


def observed(database: Database, lease: Lease, written: str | None) -> Observed:
    """The load balancer now; ``written`` is the mark of the last write under ``lease``.

    Raises NodeBehind and what :meth:`Database.read` raises.
    """
    deadline = time.monotonic() + CATCH_UP
    while True:
        if seen := _unless_behind(database, lease, written):
            return seen
        if time.monotonic() > deadline:
            raise NodeBehind
        time.sleep(_POLL)


def _unless_behind(database: Database, lease: Lease, written: str | None) -> Observed | None:
    try:
        with database.read() as conn:
            seen = observe(conn, lease.loadbalancer_id)
    except LookupError:  # what has a lease exists
        return None
    return None if seen.is_behind(lease, written) else seen
