"""Writes what heartbeats said: liveness and statistics in one statement each, operating statuses where they changed.

The recording thread calls :meth:`Recorder.flush` every interval. The number of statements does not depend on how many
amphorae were heard; a tree is read only for a load balancer of which something new was said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tavia.amphora.heartbeat import Heartbeat
from tavia.health.inbox import Inbox, Received, joined
from tavia.health.operating import changes
from tavia.metrics import health as metrics
from tavia.model.resources import Configured
from tavia.model.statuses import AmphoraStatus, OperatingStatus
from tavia.store import intents, liveness, statistics
from tavia.store.database import Database
from tavia.store.liveness import Known
from tavia.store.trees import read_tree

LOG = logging.getLogger(__name__)

REPORT_EVERY = 60.0
"""Seconds between two lines in the log about the same unknown amphora."""

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
        self._outsiders: dict[str, float] = {}

    def flush(self) -> None:
        """Write what came since the last time. Where the database refuses, it waits for the next; raises its error."""
        taken = self._inbox.take()
        try:
            with metrics.FLUSHES.time():
                known = self._database.write(lambda conn: self._record(conn, taken)) if taken else {}
        except Exception:
            self._inbox.put_back(taken)
            raise
        metrics.ROWS.inc(len(known))
        metrics.DROPPED.labels("unknown").inc(len(taken.keys() - known.keys()))
        self._dismiss(taken, known)
        self._listen(taken, known)
        self._tell({k.loadbalancer_id: k for k in known.values() if k.loadbalancer_id})

    def _record(self, conn: Connection, taken: Mapping[str, Received]) -> dict[str, Known]:
        known = liveness.known(conn, taken)
        clock, here = liveness.database_time(conn), self._clock()
        alive = {i: taken[i] for i, its in known.items() if its.status not in REPLACED}
        liveness.record(conn, [_liveness(r.heartbeat, clock - (here - r.at)) for r in alive.values()])
        self._record_statistics(conn, alive, known)
        for amphora_id in self._came_back(known):
            intents.remove_again(conn, amphora_id)
        return known

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

    def _came_back(self, known: Mapping[str, Known]) -> list[str]:
        """Removed amphorae that sent twice since: a first heartbeat may have been on its way before the removal."""
        return [i for i, its in known.items() if its.status is AmphoraStatus.DELETED and i in self._outsiders]

    def _dismiss(self, taken: Mapping[str, Received], known: Mapping[str, Known]) -> None:
        """Have workers remove again what came back, and report it, as well as strangers; once in a while each."""
        came_back = self._came_back(known)
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
        """Write operating statuses of the load balancers of which something new was said."""
        words: dict[str, list[Heartbeat]] = {}
        for word in self._words.values():
            words.setdefault(word.loadbalancer_id, []).append(word.received.heartbeat)
        self._told = {i: digest for i, digest in self._told.items() if i in words}
        digests = {i: _digest(words[i], its.observed_generation) for i, its in heard.items() if i in words}
        news = [i for i, digest in digests.items() if self._told.get(i) != digest]
        if not news:
            return
        differing: dict[type[Configured], dict[str, OperatingStatus]] = {}
        with self._database.read() as conn:
            for loadbalancer_id in news:
                for change in changes(read_tree(conn, loadbalancer_id), words[loadbalancer_id]):
                    differing.setdefault(change.resource, {})[change.id] = change.status
        if differing:
            self._database.write(lambda conn: _write_statuses(conn, differing))
        self._told |= {i: digests[i] for i in news}


def _write_statuses(conn: Connection, statuses: Mapping[type[Configured], Mapping[str, OperatingStatus]]) -> None:
    for resource, by_id in statuses.items():
        liveness.set_operating_statuses(conn, resource, by_id)


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
        "bundle_hash": heartbeat.bundle_hash and heartbeat.bundle_hash[:64],
        "vrrp_state": heartbeat.vrrp_state and heartbeat.vrrp_state[:16],
        "peer_seen": heartbeat.peer_seen,
        "haproxy_up": heartbeat.haproxy_up,
        "agent_version": heartbeat.agent_version and heartbeat.agent_version[:64],
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
