"""Messages on their way out: handed over without waiting, sent by a thread of the outbox's own.

Nobody waits for a message bus that is dead or silent. That is said once when it begins and once when it ends, however
many messages are lost meanwhile.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from tavia.metrics.bus import MESSAGES

LOG = logging.getLogger(__name__)
T = TypeVar("T")

SILENT_AFTER = 5.0
"""Seconds after which a message that is still being sent tells that the message bus does not answer."""

AGAIN_AFTER = 1.0
"""Seconds between a message that failed and the next."""


class Outbox(Generic[T]):
    """``send`` may block and may raise, which loses that message. Of more than ``limit`` waiting, the newest are lost.

    ``what`` names the messages in the log; ``spacing`` is the least number of seconds between two. The thread begins
    with the first message: in a process that forks, each child has its own.
    """

    def __init__(self, what: str, send: Callable[[T], None], *, limit: int, spacing: float = 0.0) -> None:
        self._what = what
        self._send = send
        self._spacing = spacing
        self._waiting: queue.Queue[T] = queue.Queue(limit)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._sending_since: float | None = None
        self._is_away = False

    def offer(self, message: T) -> bool:
        """Hand over. False where too many wait already."""
        self._begin()
        since = self._sending_since
        if since is not None and time.monotonic() - since > SILENT_AFTER:
            self._away("it does not answer")
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            MESSAGES.labels(self._what, "full").inc()
            return False
        return True

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is on its way, at most ``timeout`` seconds. False where something still is."""
        deadline = time.monotonic() + timeout
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(
                lambda: not self._waiting.unfinished_tasks, deadline - time.monotonic()
            )

    def _begin(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=f"outbox of {self._what}", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while True:
            message = self._waiting.get()
            self._sending_since = time.monotonic()
            try:
                self._send(message)
            except Exception as error:
                MESSAGES.labels(self._what, "failed").inc()
                self._away(str(error))
                pause = AGAIN_AFTER
            else:
                MESSAGES.labels(self._what, "sent").inc()
                self._back()
                pause = self._spacing
            self._sending_since = None
            self._waiting.task_done()
            time.sleep(pause)

    def _away(self, why: str) -> None:
        with self._lock:
            is_news, self._is_away = not self._is_away, True
        if is_news:
            LOG.warning("The message bus takes no %s, they may be lost: %s", self._what, why)

    def _back(self) -> None:
        with self._lock:
            is_news, self._is_away = self._is_away, False
        if is_news:
            LOG.warning("The message bus takes %s again", self._what)
