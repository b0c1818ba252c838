"""The health manager outlives its database, whichever way that is away."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tavia.health.grace import Grace
from tavia.health.service import HealthManager
from tavia.store.database import Database, OutcomeUnknown, StoreBusy

DEADLINE = 20.0


def manager(cycle: Any) -> HealthManager:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    nothing: Any = SimpleNamespace(flush=lambda: None, look=lambda: None, close=lambda: None, cycle=cycle)
    return HealthManager(
        sock=sock,
        inbox=nothing,
        recorder=nothing,
        starts=nothing,
        watch=nothing,
        witnesses=nothing,
        grace=Grace(0.0, longest_gap=60.0),
        flush_interval=lambda: 60.0,
        check_interval=0.01,
        stopping=threading.Event(),
    )


def refused() -> None:
    """As where MariaDB does not listen."""
    with Database.connect("mysql+pymysql://tavia:secret@127.0.0.1:1/tavia").read():
        raise AssertionError


def busy() -> None:
    raise StoreBusy(OSError("locked"))


def unknown() -> None:
    raise OutcomeUnknown(OSError("Lost connection"))


def unforeseen() -> None:
    raise LookupError("nobody foresaw it")


@pytest.mark.parametrize("trouble", [refused, busy, unknown, unforeseen])
def test_a_database_that_is_away_and_what_nobody_foresaw_end_no_loop(trouble: Any) -> None:
    looked = threading.Semaphore(0)

    def cycle() -> None:
        looked.release()
        trouble()

    health = manager(cycle)
    running = threading.Thread(target=health.run, daemon=True)
    running.start()
    try:
        assert all(looked.acquire(timeout=DEADLINE) for _ in range(3))
        assert not health.stopping.is_set()
    finally:
        health.stop()
        running.join(DEADLINE)
