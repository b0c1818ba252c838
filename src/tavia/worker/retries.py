"""When a failure is shown as ERROR, and when it is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_RETRY = 1.0
FAILED_AGAIN = 5.0
"""Least seconds until what failed of a load balancer that is served may be tried again: each try of an amphora that was
not reached takes a whole timeout."""


@dataclass(frozen=True, slots=True)
class Retry:
    """``show``: the load balancer turns ERROR now; ``after``: seconds until the next attempt."""

    show: bool
    after: float


def retry(is_final: bool, failing_for: float, pending_seconds: float, interval_max: float) -> Retry:
    """Decide on a failure that has gone on for ``failing_for`` seconds.

    ``is_final``, one that waiting cannot cure, is shown at once, any other after ``pending_seconds``. Attempts never
    stop: they come after as long again as the failure has lasted, at most ``interval_max`` seconds apart.
    """
    shown = is_final or failing_for >= pending_seconds
    return Retry(show=shown, after=min(interval_max, max(FIRST_RETRY, failing_for)))


def failed_again(failing_for: float, interval_max: float) -> float:
    """Seconds until half a load balancer that could not be reached, or units that are held back, are tried again.

    ``failing_for`` is for how many seconds that has been so.
    """
    return min(interval_max, max(FAILED_AGAIN, failing_for))
