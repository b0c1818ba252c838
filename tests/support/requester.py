"""A client that asks a VIP over HTTP, each time with a new connection, and keeps what it saw."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

VIP_PORT = 80


class Unanswered(Exception):
    """A request whose answer was not a whole 200, and what came instead."""


def get(address: str, path: str = "/", timeout: float = 2.0) -> str:
    """The body of the answer. ``timeout`` is seconds. Raises Unanswered."""
    connection = http.client.HTTPConnection(address, VIP_PORT, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(repr(error)) from error
    finally:
        connection.close()
    if response.status != 200:
        raise Unanswered(f"status {response.status}")
    return body


def asked(address: str, timeout: float = 2.0) -> str | None:
    """As :func:`get`, but None for anything else."""
    try:
        return get(address, timeout=timeout)
    except Unanswered:
        return None


@dataclass
class Seen:
    """What a client saw that asked all the time: who answered each request, None for nobody.

    ``failures`` are those: when, and what came instead.
    """

    answers: list[str | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.answers.clear()
        self.failures.clear()

    def since(self, mark: int) -> Sequence[str | None]:
        return self.answers[mark:]


@contextmanager
def asking(
    ask: Callable[[], str], pause: float, wherever: Callable[[Callable[[], None]], None] = lambda work: work()
) -> Iterator[Seen]:
    """Asks all the time while the block runs, with so many seconds in between; ``wherever`` moves its thread first."""
    seen, done = Seen(), threading.Event()

    def ask_on() -> None:
        while not done.wait(pause):
            try:
                seen.answers.append(ask())
            except Unanswered as failure:
                seen.answers.append(None)
                seen.failures.append(f"{time.strftime('%H:%M:%S')} {failure}")

    client = threading.Thread(target=lambda: wherever(ask_on))
    client.start()
    try:
        yield seen
    finally:
        done.set()
        client.join()
