"""The times in which nothing fails over, because what the database says of heartbeats may be old.

That is after a start, after an outage of the database, and after this process stood still itself (a frozen machine).
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Grace:
    """Lasts ``seconds`` from the start and from every disturbance.

    It is a disturbance too when heartbeats were not recorded for ``longest_gap`` seconds.
    """

    def __init__(self, seconds: float, longest_gap: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._longest_gap = longest_gap
        self._clock = clock
        self._recorded = clock()
        self._until = clock() + seconds

    def disturbed(self) -> None:
        """The database could not be read or written."""
        self._until = self._clock() + self._seconds

    def recorded(self) -> None:
        """All heartbeats that came are in the database."""
        if self._is_behind():
            self.disturbed()
        self._recorded = self._clock()

    @property
    def active(self) -> bool:
        """Whether it lasts."""
        return self._clock() < self._until or self._is_behind()

    def _is_behind(self) -> bool:
        return self._clock() - self._recorded > self._longest_gap
