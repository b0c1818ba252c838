"""Heartbeats as they arrive: checked, replays dropped, the newest of each amphora kept until it is recorded.

The receiver thread puts datagrams in, the recording thread takes them out. Nothing here touches the database, so an
outage of it costs memory for one heartbeat an amphora and no more.

What is accepted follows the last one accepted from the same disk of its amphora (its start id). One from another disk
waits for :mod:`tavia.health.starts` to ask the agent which disk it has.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from tavia.amphora.heartbeat import (
    MAX_ENTRIES,
    Heartbeat,
    HeartbeatError,
    Malformed,
    PoolReport,
    WrongSignature,
    decode,
    derive_key,
)
from tavia.diagnosis.evidence import Refusal
from tavia.health.unforeseen import unforeseen
from tavia.metrics import health as metrics
from tavia.model.mark import Mark

LOG = logging.getLogger(__name__)

MOST_AMPHORAE = 100_000
"""Amphorae of which something is kept. For one more, who was not heard for longest is forgotten: its next heartbeat is
compared with the database alone."""

BUFFER = 65536
REPORT_EVERY = 60.0
"""Seconds between two lines in the log about dropped datagrams."""
PAUSE = 0.5
"""Seconds after a socket refused to be read."""


@dataclass(frozen=True, slots=True)
class Received:
    """A heartbeat, and when it came (``time.monotonic``)."""

    heartbeat: Heartbeat
    at: float


class Inbox:
    """``heartbeat_key`` tells the secret in force; after a change the earlier one is good too.

    ``accepted`` holds the mark of the last heartbeat of each amphora, so that older ones are known as replays.

    ``dropped`` counts datagrams by reason: malformed, signature, replayed, start (of another disk).
    """

    def __init__(
        self,
        heartbeat_key: Callable[[], str],
        accepted: Mapping[str, Mark],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._heartbeat_key_now = heartbeat_key
        self._heartbeat_key = heartbeat_key()
        self._earlier_key: str | None = None
        self._clock = clock
        self._lock = Lock()
        self._accepted = dict(list(accepted.items())[-MOST_AMPHORAE:])  # who was heard last is last
        self._waiting: dict[str, Received] = {}
        self._of_other_disks: dict[str, Received] = {}
        self._confirmed: dict[str, str | None] = {}
        self._refused: dict[str, tuple[Refusal, float]] = {}
        self._keys: dict[str, bytes] = {}
        self._reported = -REPORT_EVERY

    def put(self, datagram: bytes) -> None:
        """Take a datagram, or count why not."""
        metrics.RECEIVED.inc()
        try:
            heartbeat = self._decoded(datagram)
        except HeartbeatError as error:
            self._drop("signature" if isinstance(error, WrongSignature) else "malformed", str(error))
            if isinstance(error, Malformed):
                self.refuse(error.amphora_id, Refusal.MALFORMED)
            return
        with self._lock:
            last = self._accepted.get(heartbeat.amphora_id)
            refusal = self._take_in(Received(heartbeat, self._clock()), last)
        if refusal:
            self._drop(refusal, f"amphora {heartbeat.amphora_id} sent {heartbeat.mark} after {last}")
        else:
            metrics.ACCEPTED.inc()

    def take(self) -> dict[str, Received]:
        """What came since the last time, by amphora id."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        return taken

    def put_back(self, taken: Mapping[str, Received]) -> None:
        """What could not be recorded waits on, unless something newer came."""
        with self._lock:
            self._waiting = {i: r for i, r in taken.items() if i in self._accepted} | self._waiting

    def forget(self, amphora_id: str) -> None:
        """An amphora that no row names: keep nothing of it."""
        with self._lock:
            self._forget(amphora_id)

    def of_other_disks(self) -> list[str]:
        """The amphorae that sent heartbeats which name another disk than the last accepted."""
        with self._lock:
            return list(self._of_other_disks)

    def compare(self, received: Received, recorded: Mark) -> bool:
        """Whether a heartbeat that was taken is to be believed after ``recorded``; if not, it is dealt with here.

        What is kept here may be less than what the database knows: of one that was forgotten, or heard by others.
        """
        mark, amphora_id = received.heartbeat.mark, received.heartbeat.amphora_id
        with self._lock:
            if mark.start_id == recorded.start_id:
                self._confirmed.pop(amphora_id, None)
                if recorded.follows(self._accepted.get(amphora_id, mark)):
                    self._accepted[amphora_id] = recorded
                return mark.order >= recorded.order or self._refused_now(amphora_id, Refusal.REPLAYED)
            if amphora_id in self._confirmed and self._confirmed[amphora_id] == mark.start_id:
                return True
            other = self._of_other_disks.pop(amphora_id, None)
            self._accepted[amphora_id] = recorded
            self._take_in(other or received, recorded)
            return self._refused_now(amphora_id, Refusal.START)

    def is_confirmed(self, received: Received) -> bool:
        """Whether the agent of its amphora said that it has this disk, and nothing from there was recorded yet."""
        amphora_id, start_id = received.heartbeat.amphora_id, received.heartbeat.start_id
        with self._lock:
            return amphora_id in self._confirmed and self._confirmed[amphora_id] == start_id

    def confirm(self, amphora_id: str, mark: Mark) -> bool:
        """Its agent says over TLS which disk it has and that it sends from ``mark`` on. Whether that is news.

        The order begins anew there. What other disks said is refused for as long as the agent does not name them again.
        """
        with self._lock:
            last = self._accepted.get(amphora_id)
            other = self._of_other_disks.pop(amphora_id, None)
            if last is None or last.start_id == mark.start_id:
                return False
            self._accepted[amphora_id], self._confirmed[amphora_id] = mark, mark.start_id
            self._waiting.pop(amphora_id, None)
            if other and other.heartbeat.mark.follows(mark):
                self._take_in(other, mark)
            return True

    def refuse(self, amphora_id: str, refusal: Refusal) -> None:
        """Remember why what this amphora sent was not taken."""
        with self._lock:
            self._refused_now(amphora_id, refusal)

    def refusal(self, amphora_id: str, seconds: float) -> Refusal | None:
        """Why what this amphora sent last was not taken, if it sent something in so many seconds."""
        with self._lock:
            refusal, at = self._refused.get(amphora_id, (None, 0.0))
        return refusal if self._clock() - at <= seconds else None

    def _take_in(self, received: Received, last: Mark | None) -> Refusal | None:
        heartbeat, amphora_id = received.heartbeat, received.heartbeat.amphora_id
        if last and heartbeat.start_id != last.start_id:
            self._of_other_disks[amphora_id] = received
            self._refused_now(amphora_id, Refusal.START)
            return Refusal.START
        if last and not heartbeat.mark.follows(last):
            self._refused_now(amphora_id, Refusal.REPLAYED)
            return Refusal.REPLAYED
        self._accepted.pop(amphora_id, None)
        self._accepted[amphora_id] = heartbeat.mark
        self._refused.pop(amphora_id, None)
        earlier = self._waiting.get(amphora_id)
        self._waiting[amphora_id] = replace(
            received, heartbeat=joined(earlier.heartbeat, heartbeat) if earlier else heartbeat
        )
        if len(self._accepted) > MOST_AMPHORAE:
            self._forget(next(iter(self._accepted)))
        return None

    def _forget(self, amphora_id: str) -> None:
        of_each: tuple[dict[str, Any], ...] = (
            self._accepted, self._waiting, self._of_other_disks, self._confirmed, self._refused, self._keys,
        )  # fmt: skip
        for kept in of_each:
            kept.pop(amphora_id, None)

    def _refused_now(self, amphora_id: str, refusal: Refusal) -> bool:
        """Remember it; False."""
        self._refused.pop(amphora_id, None)
        self._refused[amphora_id] = refusal, self._clock()
        if len(self._refused) > MOST_AMPHORAE:
            del self._refused[next(iter(self._refused))]
        return False

    def _decoded(self, datagram: bytes) -> Heartbeat:
        now = self._heartbeat_key_now()
        if now != self._heartbeat_key:
            self._earlier_key, self._heartbeat_key = self._heartbeat_key, now
            self._keys.clear()
            LOG.info("heartbeat_key changed: until a restart heartbeats that the earlier one signs are good too")
        try:
            heartbeat = decode(datagram, self._key)
        except WrongSignature:
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


def _source(heartbeat: Heartbeat) -> tuple[object, ...]:
    return heartbeat.start_id, heartbeat.boot_count, heartbeat.bundle_hash


def joined(earlier: Heartbeat, later: Heartbeat) -> Heartbeat:
    """A part of a large heartbeat together with the parts before it; a whole one, or of another bundle, alone.

    An amphora that sends parts without end, each of other members, is heard in its last one.
    """
    if later.complete or _source(later) != _source(earlier):
        return later
    if earlier.entries + later.entries > MAX_ENTRIES:
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
            inbox.put(sock.recv(BUFFER))
        except TimeoutError:
            continue
        except Exception as error:
            if not stopped():
                unforeseen("receive", error)
                time.sleep(PAUSE if isinstance(error, OSError) else 0)
