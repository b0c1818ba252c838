"""Heartbeats as they arrive: checked, replays dropped, the newest of each amphora kept until it is recorded.

The receiver thread puts datagrams in, the recording thread takes them out. Nothing here touches the database, so an
outage of it costs memory for one heartbeat an amphora and no more.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from tavia.amphora.heartbeat import Heartbeat, HeartbeatError, PoolReport, WrongSignature, decode, derive_key
from tavia.metrics import health as metrics

LOG = logging.getLogger(__name__)

MOST_AMPHORAE = 100_000
"""Amphorae whose heartbeats are kept; a datagram of one more is dropped."""

BUFFER = 65536
REPORT_EVERY = 60.0
"""Seconds between two lines in the log about dropped datagrams."""


@dataclass(frozen=True, slots=True)
class Received:
    """A heartbeat, and when it came (``time.monotonic``)."""

    heartbeat: Heartbeat
    at: float


class Inbox:
    """``heartbeat_key`` tells the secret in force; after a change the earlier one is good too.

    ``accepted`` holds the order of the last heartbeat of each amphora, so that older ones are known as replays.

    ``dropped`` counts datagrams by reason: malformed, signature, replayed, full.
    """

    def __init__(
        self,
        heartbeat_key: Callable[[], str],
        accepted: Mapping[str, tuple[int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._heartbeat_key_now = heartbeat_key
        self._heartbeat_key = heartbeat_key()
        self._earlier_key: str | None = None
        self._accepted = dict(accepted)
        self._clock = clock
        self._keys: dict[str, bytes] = {}
        self._waiting: dict[str, Received] = {}
        self._lock = Lock()
        self._reported = -REPORT_EVERY

    def put(self, datagram: bytes) -> None:
        """Take a datagram, or count why not."""
        metrics.RECEIVED.inc()
        try:
            heartbeat = self._decoded(datagram)
        except HeartbeatError as error:
            self._drop("signature" if isinstance(error, WrongSignature) else "malformed", str(error))
            return
        amphora_id = heartbeat.amphora_id
        last = self._accepted.get(amphora_id)
        if last is None and len(self._accepted) >= MOST_AMPHORAE:
            self._drop("full", f"heartbeats of more than {MOST_AMPHORAE} amphorae")
            return
        if last is not None and heartbeat.order <= last:
            self._drop("replayed", f"amphora {amphora_id} sent {heartbeat.order} after {last}")
            return
        self._accepted[amphora_id] = heartbeat.order
        metrics.ACCEPTED.inc()
        with self._lock:
            earlier = self._waiting.get(amphora_id)
            merged = joined(earlier.heartbeat, heartbeat) if earlier else heartbeat
            self._waiting[amphora_id] = Received(merged, self._clock())

    def take(self) -> dict[str, Received]:
        """What came since the last time, by amphora id."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        return taken

    def put_back(self, taken: Mapping[str, Received]) -> None:
        """What could not be recorded waits on, unless something newer came."""
        with self._lock:
            self._waiting = dict(taken) | self._waiting

    def forget(self, amphora_id: str) -> None:
        """An amphora that no row names: keep nothing of it."""
        self._accepted.pop(amphora_id, None)
        self._keys.pop(amphora_id, None)

    def _decoded(self, datagram: bytes) -> Heartbeat:
        now = self._heartbeat_key_now()
        if now != self._heartbeat_key:
            self._earlier_key, self._heartbeat_key = self._heartbeat_key, now
            self._keys.clear()
            LOG.info("heartbeat_key changed: until a restart heartbeats that the earlier one signs are good too")
        try:
            heartbeat = decode(datagram, self._key)
        except HeartbeatError:
            earlier = self._earlier_key
            if earlier is None:
                raise
            return decode(datagram, lambda amphora_id: derive_key(earlier, amphora_id))
        self._keys.setdefault(heartbeat.amphora_id, derive_key(self._heartbeat_key, heartbeat.amphora_id))
        return heartbeat

    def _key(self, amphora_id: str) -> bytes:
        # Kept only once a signature has been good: what a datagram claims must not fill the memory.
        return self._keys.get(amphora_id) or derive_key(self._heartbeat_key, amphora_id)

    def _drop(self, reason: str, example: str) -> None:
        self.dropped[reason] += 1
        metrics.DROPPED.labels(reason).inc()
        now = self._clock()
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
            LOG.warning("Heartbeats dropped since the start: %s; the last: %s", counts, example)


def joined(earlier: Heartbeat, later: Heartbeat) -> Heartbeat:
    """A part of a large heartbeat together with the parts before it; a whole one, or of another bundle, alone."""
    if later.complete or (later.boot_count, later.bundle_hash) != (earlier.boot_count, earlier.bundle_hash):
        return later
    pools = dict(earlier.pools)
    for key, report in later.pools.items():
        members = {**(pools[key].members if key in pools else {}), **report.members}
        pools[key] = PoolReport(status=report.status, members=members)
    return replace(later, listeners={**earlier.listeners, **later.listeners}, pools=pools)


def receive(sock: socket.socket, inbox: Inbox, stopped: Callable[[], bool]) -> None:
    """Put every datagram of a socket with a timeout into the inbox, until ``stopped``."""
    while not stopped():
        try:
            datagram = sock.recv(BUFFER)
        except TimeoutError:
            continue
        inbox.put(datagram)
