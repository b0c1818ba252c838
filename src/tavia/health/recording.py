"""Writes what heartbeats said: liveness and statistics in one statement each, operating statuses where they changed.

The recording thread calls :meth:`Recorder.flush` every interval. The number of statements does not depend on how many
amphorae were heard; trees are read, many at once, of load balancers of which something new was said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tavia.amphora.heartbeat import Heartbeat
from tavia.diagnosis.evidence import Refusal
from tavia.health.inbox import Inbox, Received, joined
from tavia.health.isolation import isolated
from tavia.health.operating import Correction, corrections
from tavia.health.unforeseen import unforeseen
from tavia.metrics import health as metrics
from tavia.model.resources import Configured
from tavia.model.statuses import AmphoraStatus, OperatingStatus
from tavia.store import intents, liveness, statistics
from tavia.store.database import Database
from tavia.store.liveness import Known
from tavia.store.trees import read_reported

LOG = logging.getLogger(__name__)

REPORT_EVERY = 60.0
"""Seconds between two lines in the log about the same unknown amphora."""

MOST_TOLD = 500
"""Load balancers whose operating statuses are written in one flush: the next heartbeats must not wait for all."""
TREES_AT_ONCE = 100

REPLACED = (AmphoraStatus.PENDING_DELETE, AmphoraStatus.DELETED)


@dataclass(frozen=True, slots=True)
class _Word:
    """What an amphora of a load balancer last said."""

    loadbalancer_id: str
    received: Received


class Recorder:
    """``wake`` tells the workers that something is due; ``memory`` is for how many seconds a word counts."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        wake: Callable[[], None],
        memory: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._wake = wake
        self._memory = memory
        self._clock = clock
        self._words: dict[str, _Word] = {}
        self._told: dict[str, int] = {}
        self._untold: dict[str, int] = {}
        self._outsiders: dict[str, float] = {}

    def flush(self) -> None:
        """Write what came since the last time. Where the database refuses, it waits for the next; raises its error.

        An amphora whose heartbeat cannot be recorded is left out, the others are recorded.
        """
        taken = self._inbox.take()
        known: dict[str, Known] = {}

        def record(amphora_ids: Sequence[str]) -> None:
            theirs = {i: taken[i] for i in amphora_ids}
            known.update(self._database.write(lambda conn: self._record(conn, theirs)))

        try:
            with metrics.FLUSHES.time():
                failed = isolated(self._database, sorted(taken), record, "record")
        except Exception:
            self._inbox.put_back({i: received for i, received in taken.items() if i not in known})
            raise
        metrics.ROWS.inc(len(known))
        metrics.DROPPED.labels("unrecordable").inc(len(failed))
        for amphora_id in failed:
            self._inbox.refuse(amphora_id, Refusal.UNRECORDABLE)
            del taken[amphora_id]
        metrics.DROPPED.labels("unknown").inc(len(taken.keys() - known.keys()))
        self._dismiss(taken, known)
        believed = {i: its for i, its in known.items() if its.last is None or self._inbox.compare(taken[i], its.last)}
        self._listen(taken, believed)
        self._tell({k.loadbalancer_id: k for k in believed.values() if k.loadbalancer_id})

    def _record(self, conn: Connection, taken: Mapping[str, Received]) -> dict[str, Known]:
        known = liveness.known(conn, taken)
        clock, here = liveness.database_time(conn), self._clock()
        alive = {i: taken[i] for i, its in known.items() if its.status not in REPLACED and self._is_new(taken[i], its)}
        liveness.record(conn, [_liveness(r.heartbeat, clock - (here - r.at)) for r in alive.values()])
        self._record_statistics(conn, alive, known)
        for amphora_id in self._came_back(taken, known):
            intents.remove_again(conn, amphora_id)
        return known

    def _is_new(self, received: Received, its: Known) -> bool:
        """Whether the database has nothing of it yet: other health managers record too."""
        mark = received.heartbeat.mark
        return its.last is None or mark.follows(its.last) or self._inbox.is_confirmed(received)

    def _record_statistics(self, conn: Connection, alive: Mapping[str, Received], known: Mapping[str, Known]) -> None:
        owners = {i: its.loadbalancer_id for i, its in known.items() if its.loadbalancer_id}
        theirs = statistics.listeners_of(conn, set(owners.values()))
        statistics.record(
            conn,
            [
                row
                for amphora_id, received in alive.items()
                for row in _statistics(received.heartbeat, owners.get(amphora_id, ""))
                if (row["loadbalancer_id"], row["listener_id"]) in theirs
            ],
        )

        served = {i: r.heartbeat.listeners.keys() for i, r in alive.items() if r.heartbeat.complete}
        statistics.record_absent(conn, served)

    def _came_back(self, taken: Mapping[str, Received], known: Mapping[str, Known]) -> list[str]:
        """Removed amphorae that sent twice since: a first heartbeat may have been on its way before the removal."""
        return [
            i
            for i, its in sorted(known.items())
            if its.status is AmphoraStatus.DELETED and i in self._outsiders and self._is_new(taken[i], its)
        ]

    def _dismiss(self, taken: Mapping[str, Received], known: Mapping[str, Known]) -> None:
        """Have workers remove again what came back, and report it, as well as strangers; once in a while each."""
        came_back = self._came_back(taken, known)
        if came_back:
            LOG.warning("Removed amphorae send heartbeats, they are removed again: %s", ", ".join(came_back))
            self._wake()
        now = self._clock()
        self._outsiders = {i: at for i, at in self._outsiders.items() if now - at < REPORT_EVERY}
        for amphora_id in taken.keys() - known.keys():
            self._inbox.forget(amphora_id)
            if amphora_id not in self._outsiders:
                LOG.warning("Amphora %s sends heartbeats but is not in the database; nothing is done", amphora_id)
        outsiders = [i for i in taken if i not in known or known[i].status is AmphoraStatus.DELETED]
        self._outsiders = dict.fromkeys(outsiders, now) | self._outsiders

    def _listen(self, taken: Mapping[str, Received], known: Mapping[str, Known]) -> None:
        oldest = self._clock() - self._memory
        self._words = {i: word for i, word in self._words.items() if word.received.at >= oldest}
        for amphora_id, its in known.items():
            earlier = self._words.pop(amphora_id, None)
            if its.loadbalancer_id and its.status in (AmphoraStatus.ALLOCATED, AmphoraStatus.BOOTING):
                received = taken[amphora_id]
                whole = joined(earlier.received.heartbeat, received.heartbeat) if earlier else received.heartbeat
                self._words[amphora_id] = _Word(its.loadbalancer_id, Received(whole, received.at))

    def _tell(self, heard: Mapping[str, Known]) -> None:
        """Write operating statuses of the load balancers of which something new was said.

        After a start, or a change of all, that is every load balancer: so many in a flush, the others in the next ones.
        """
        words: dict[str, list[Heartbeat]] = {}
        for word in self._words.values():
            words.setdefault(word.loadbalancer_id, []).append(word.received.heartbeat)
        self._told = {i: digest for i, digest in self._told.items() if i in words}
        digests = {i: _digest(words[i], its.observed_generation) for i, its in heard.items() if i in words}
        self._untold |= {i: digest for i, digest in digests.items() if self._told.get(i) != digest}
        news = {i: self._untold.pop(i) for i in list(self._untold)[:MOST_TOLD]}
        listed = [i for i in news if i in words]
        for first in range(0, len(listed), TREES_AT_ONCE):
            self._tell_some(listed[first : first + TREES_AT_ONCE], words)
        self._told |= {i: news[i] for i in listed}

    def _tell_some(self, loadbalancer_ids: Sequence[str], words: Mapping[str, Sequence[Heartbeat]]) -> None:
        with self._database.read() as conn:
            trees = read_reported(conn, loadbalancer_ids)
        found: dict[str, list[Correction]] = {}
        for tree in trees:
            loadbalancer_id = tree.loadbalancer.id
            try:
                found[loadbalancer_id] = corrections(tree, words[loadbalancer_id])
            except Exception as error:
                unforeseen("record", error, f"load balancer {loadbalancer_id}")

        def write(some: Sequence[str]) -> None:
            self._database.write(lambda conn: _write_statuses(conn, [c for i in some for c in found[i]]))

        isolated(self._database, sorted(i for i, its in found.items() if its), write, "record")


def _write_statuses(conn: Connection, found: Iterable[Correction]) -> None:
    differing: dict[type[Configured], dict[str, OperatingStatus]] = {}
    for change in found:
        differing.setdefault(change.resource, {})[change.id] = change.status
    for resource in sorted(differing, key=lambda each: each.table):
        liveness.set_operating_statuses(conn, resource, differing[resource])


def _digest(heartbeats: list[Heartbeat], observed_generation: int) -> int:
    """Equal for equal news: all that operating statuses depend on, without counters."""
    said = [
        (
            h.amphora_id,
            h.generation,
            h.vrrp_state,
            h.complete,
            frozenset((i, r.status) for i, r in h.listeners.items()),
            frozenset((i, r.status, frozenset(r.members.items())) for i, r in h.pools.items()),
        )
        for h in heartbeats
    ]
    return hash((observed_generation, frozenset(said)))


def _liveness(heartbeat: Heartbeat, last_update: float) -> dict[str, Any]:
    return {
        "amphora_id": heartbeat.amphora_id,
        "last_update": last_update,
        "boot_count": heartbeat.boot_count,
        "seq": heartbeat.seq,
        "generation": heartbeat.generation,
        "start_id": heartbeat.start_id,
        "bundle_hash": heartbeat.bundle_hash,
        "vrrp_state": heartbeat.vrrp_state,
        "peer_seen": heartbeat.peer_seen,
        "haproxy_up": heartbeat.haproxy_up,
        "agent_version": heartbeat.agent_version,
        "no_carrier": None if heartbeat.no_carrier is None else " ".join(heartbeat.no_carrier),
    }


def _statistics(heartbeat: Heartbeat, loadbalancer_id: str) -> list[dict[str, Any]]:
    return [
        {
            "listener_id": listener_id,
            "amphora_id": heartbeat.amphora_id,
            "loadbalancer_id": loadbalancer_id,
            "bytes_in": report.stats.rx,
            "bytes_out": report.stats.tx,
            "active_connections": report.stats.conns,
            "total_connections": report.stats.totconns,
            "request_errors": report.stats.ereq,
        }
        for listener_id, report in heartbeat.listeners.items()
    ]
