"""What HAProxy says of listeners, pools and members, in the heartbeat's terms. Pure, but for the totals' file.

Names in the configuration tell what is what: a frontend is named by its listener's id, a backend
``<pool id>:<listener id>``, a server by its member's id.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tavia.agent import disk
from tavia.agent.stats_socket import worker_pid
from tavia.amphora.heartbeat import ListenerReport, ListenerStats, PoolReport

QUESTION = "show info;show stat -1 7 -1"
"""The worker's process id, then frontends (1), backends (2) and servers (4)."""

WORST_FIRST = ("DOWN", "DRAIN", "MAINT", "no check", "UP")
"""How several backends' words about one pool or member become one: what any of them suffers from counts."""

COUNTERS = ("tx", "rx", "totconns", "ereq")

MOST_ABSENT = 1000
"""Listeners whose counters are kept though they are not served: who can tell those that are off from those that are
deleted. Of more, who was served last stays."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one worker (its process id) reported."""

    worker: int
    listeners: Mapping[str, ListenerReport]
    pools: Mapping[str, PoolReport]


def observation(answer: str, leaving: Collection[str]) -> Observation:
    """Read the answer to :data:`QUESTION`; servers in ``leaving`` (``backend/server``) are members no more."""
    listeners: dict[str, ListenerReport] = {}
    statuses: dict[str, str] = {}
    members: dict[str, dict[str, str]] = {}
    for row in _rows(answer):
        proxy, name, word = row["pxname"], row["svname"], _word(row)
        pool_id, colon, _ = proxy.partition(":")
        if name == "FRONTEND":
            listeners[proxy] = _listener(row)
        elif not colon:
            continue
        elif name == "BACKEND":
            statuses[pool_id] = _worst(statuses.get(pool_id), word)
        elif f"{proxy}/{name}" not in leaving:
            of_pool = members.setdefault(pool_id, {})
            of_pool[name] = _worst(of_pool.get(name), word)
    pools = {i: PoolReport(status=status, members=members.get(i, {})) for i, status in statuses.items()}
    return Observation(worker_pid(answer), listeners, pools)


class Totals:
    """Counters that go on over reloads and reboots: a new worker begins at 0, and so does a listener that was off.

    Kept in ``file``, on the amphora's disk. What an old worker still carries after the last look at it is lost, as it
    is in Octavia.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(disk.read(file) or "{}")
        self._worker: int | None = kept.get("worker")
        self._base: dict[str, dict[str, int]] = kept.get("base", {})
        self._last: dict[str, dict[str, int]] = kept.get("last", {})

    def begin_anew(self) -> None:
        """No worker runs: the next one is another, even if it gets the same process id, as after a reboot."""
        self._worker = None

    def add(self, seen: Observation) -> dict[str, ListenerReport]:
        """The listeners as seen, with what earlier workers counted added."""
        now = {i: {name: getattr(r.stats, name) for name in COUNTERS} for i, r in seen.listeners.items()}
        if seen.worker != self._worker or _went_back(self._last, now):
            for i, counters in self._last.items():
                self._base[i] = _sum(self._base.pop(i, {}), counters)  # who was seen last is last
            self._worker, self._last = seen.worker, {}
        self._last |= now
        for i in [i for i in self._base if i not in now][:-MOST_ABSENT]:
            del self._base[i]
        disk.write(self._file, json.dumps({"worker": self._worker, "base": self._base, "last": self._last}).encode())
        return {
            i: replace(report, stats=ListenerStats(**asdict(report.stats) | _sum(self._base.get(i, {}), now[i])))
            for i, report in seen.listeners.items()
        }


def _rows(answer: str) -> Iterator[dict[str, str]]:
    """The lines of ``show stat``; only columns that stand before any free text, which may hold commas."""
    names: list[str] = []
    for line in answer.splitlines():
        if line.startswith("# "):
            names = line[2:].split(",")[:19]
        elif names and line:
            yield dict(zip(names, line.split(",", len(names)), strict=False))


def _listener(row: Mapping[str, str]) -> ListenerReport:
    limit, current = int(row["slim"] or 0), int(row["scur"])
    return ListenerReport(
        status="FULL" if 0 < limit <= current else "OPEN",
        stats=ListenerStats(
            tx=int(row["bout"]), rx=int(row["bin"]), conns=current, totconns=int(row["stot"]), ereq=int(row["ereq"])
        ),
    )


def _word(row: Mapping[str, str]) -> str:
    """HAProxy's word without "check in progress" (``* UP``) and how far a transition is (``UP 1/3``).

    HAProxy says UP of a server whose weight is 0, which gets nothing but what it already has: that is DRAIN.
    """
    status = row["status"].removeprefix("* ")
    word = status if status == "no check" else status.partition(" ")[0]
    is_server = row["svname"] not in ("FRONTEND", "BACKEND")
    return "DRAIN" if is_server and word == "UP" and row["weight"] == "0" else word


def _worst(*words: str | None) -> str:
    known = [word for word in words if word is not None]
    return min(known, key=lambda word: WORST_FIRST.index(word) if word in WORST_FIRST else len(WORST_FIRST))


def _went_back(before: Mapping[str, Mapping[str, int]], now: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether anything is less than it was: that is another worker, which has the process id of one that ended."""
    return any(its[name] < before[i][name] for i, its in now.items() if i in before for name in COUNTERS)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in COUNTERS}
