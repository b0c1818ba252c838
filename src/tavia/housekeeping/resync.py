"""Amphorae that report another bundle than their row says are pushed again: converging, never a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from tavia.store import liveness
from tavia.store.database import Database

LOG = logging.getLogger(__name__)


class Resync:
    """``timeout`` is for how many seconds a heartbeat counts; ``wake`` tells the workers."""

    def __init__(self, database: Database, timeout: float, wake: Callable[[], None]) -> None:
        self._database = database
        self._timeout = timeout
        self._wake = wake
        self._lagging: dict[str, tuple[str | None, str | None]] = {}

    def sweep(self) -> None:
        """Have those pushed again that differed in the last round already, in the same way.

        Once is not enough: a heartbeat sent before a push may be recorded after it. Raises the database's errors.
        """
        with self._database.read() as conn:
            lagging = liveness.lagging(conn, self._timeout)
        again = [amphora_id for amphora_id, hashes in lagging.items() if self._lagging.get(amphora_id) == hashes]
        self._lagging = lagging
        for amphora_id in again:
            LOG.warning("Amphora %s runs another bundle than it was given: it is pushed again", amphora_id)
            self._database.write(partial(liveness.push_again, amphora_id=amphora_id))
        if again:
            self._wake()
