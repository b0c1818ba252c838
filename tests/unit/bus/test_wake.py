"""A wake-up ends a worker's wait at once; losing one costs nothing but the poll interval."""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

from tavia.bus.wake import Datagrams, NoWakeups, wake_workers


def test_a_waiting_worker_is_woken(tmp_path: Path) -> None:
    wakeups = Datagrams(tmp_path)
    threading.Timer(0.05, wake_workers, [tmp_path]).start()
    began = time.monotonic()
    wakeups.wait(20.0)
    assert time.monotonic() - began < 10.0
    wakeups.close()


def test_wakeups_that_came_meanwhile_are_one(tmp_path: Path) -> None:
    wakeups = Datagrams(tmp_path)
    for _ in range(3):
        wake_workers(tmp_path)
    wakeups.wait(20.0)
    began = time.monotonic()
    wakeups.wait(0.05)
    assert time.monotonic() - began >= 0.05
    wakeups.close()


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    wake_workers(tmp_path)
    (tmp_path / "wake").mkdir()
    (tmp_path / "wake" / "1.sock").touch()
    wake_workers(tmp_path)


def test_without_a_free_file_descriptor_nobody_is_woken_and_nothing_fails(tmp_path: Path) -> None:
    wakeups = Datagrams(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        wake_workers(tmp_path)
        wakeups.interrupt()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        wakeups.close()


def test_a_worker_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    wakeups = Datagrams(tmp_path)
    for _ in range(2000):
        wake_workers(tmp_path)
    wakeups.close()


def test_the_socket_of_a_killed_worker_is_removed(tmp_path: Path) -> None:
    killed = Datagrams(tmp_path)
    killed._socket.close()
    wake_workers(tmp_path)
    assert list((tmp_path / "wake").iterdir()) == []


def test_a_wait_can_be_interrupted(tmp_path: Path) -> None:
    for wakeups in (Datagrams(tmp_path), NoWakeups()):
        threading.Timer(0.05, wakeups.interrupt).start()
        began = time.monotonic()
        wakeups.wait(20.0)
        assert time.monotonic() - began < 10.0
        wakeups.close()
