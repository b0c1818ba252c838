"""One deadline for a call as a whole: connecting, the handshake, sending and the answer together.

A socket's timeout counts for each receive, so who answers a byte at a time holds its caller for as long as it likes.
Here the caller says once how long all of it may take, and each receive gets what is left of that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float] = ContextVar("end", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is called in this block has ``seconds``, or less where a block around it has less."""
    token = _end.set(min(_end.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _end.reset(token)


def left() -> float:
    """Seconds that are left to the call under way; infinity where nobody set a deadline. Raises TimeoutError at 0."""
    seconds = _end.get() - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no time is left")
    return seconds
