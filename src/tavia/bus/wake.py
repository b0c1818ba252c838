"""Wake-ups on one machine: an empty datagram to every listening worker's socket in the state directory.

The API and the health-manager publish after their transaction; workers listen. A hint only: a worker polls anyway,
so a datagram that finds a full buffer or no listener is dropped.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path


def wake_workers(state_dir: Path) -> None:
    """Tell all workers that something is due. The socket of one that was killed is removed: nobody listens there.

    Raises nothing: what is due was accepted already.
    """
    with contextlib.suppress(OSError):
        for listener in (state_dir / "wake").glob("*.sock"):
            _send(listener)


def _send(listener: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(b"", str(listener))
        except ConnectionRefusedError:
            listener.unlink()


class Datagrams:
    """A worker's side: blocks until a wake-up comes, or ``timeout`` seconds have passed."""

    def __init__(self, state_dir: Path) -> None:
        directory = state_dir / "wake"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{os.getpid()}.sock"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))

    def wait(self, timeout: float) -> None:
        """Return at the next wake-up (several that came meanwhile are one) or after ``timeout``."""
        self._socket.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            self._socket.recv(1)
            self._socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)

    def interrupt(self) -> None:
        """End a wait, from another thread."""
        _send(self._path)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


class NoWakeups:
    """For a worker that nobody can wake: it polls."""

    def __init__(self) -> None:
        self._interrupted = threading.Event()

    def wait(self, timeout: float) -> None:
        """Return after ``timeout`` seconds."""
        self._interrupted.wait(timeout)

    def interrupt(self) -> None:
        """End this wait and all further ones."""
        self._interrupted.set()

    def close(self) -> None:
        """There is nothing to stop."""
