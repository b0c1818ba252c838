"""Where a heartbeat stands among those of its amphora: what tells a later one from one that somebody repeats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """``start_id`` names the disk on which boots are counted, None for an agent that has none.

    ``order`` is (boot_count, seq). Of two disks nobody can say which is later.
    """

    start_id: str | None
    order: tuple[int, int]

    def follows(self, last: Mark) -> bool:
        """Whether it is known to be later."""
        return self.start_id == last.start_id and self.order > last.order
