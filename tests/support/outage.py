"""For how long a client outside is not served while something happens: the bench's client, a request every 10 ms."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

from instance import eventually
from openstack_cloud import CHECKOUT
from tenant import ask

BEFORE, AFTER = 1.0, 2.0
"""Seconds that the client is served before what happens, and again after it."""
OVER_SECONDS = 120.0
PATIENCE = "0.9"
"""Seconds for an answer: emulated guests take their time, but a SYN that was lost is sent again after 1."""


def outage_of(address: str, happen: Callable[[], object], over: Callable[[], object]) -> float:
    """Seconds between the two served requests that were furthest apart; ``over`` tells when to look no longer.

    Raises AssertionError when it never ends.
    """
    script = str(CHECKOUT / "bench" / "clients.py")
    command = [sys.executable, "-I", script, "steady", address, "80", PATIENCE]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n", "the client did not start"
        time.sleep(BEFORE)
        happened = time.monotonic()
        happen()
        eventually(over, "it is over", OVER_SECONDS)
        eventually(lambda: ask(address), f"{address} is served again", OVER_SECONDS)
        time.sleep(AFTER)
        asked: list[tuple[float, bool]] = json.loads(process.communicate()[0])
    finally:
        process.kill()
        process.communicate()
    served = [begun for begun, is_served in asked if is_served]
    assert served, "the client was never served"
    assert served[0] < happened, "the client was not served before"
    return max(later - earlier for earlier, later in pairwise(served))
