"""The staleness loop: each cycle looks anew at all amphorae in trouble, judges them and has done what the guard allows.

Called by the service every ``health_check_interval``. What has to survive is in the database (marks, faults, journal);
the memory here only knows since when an amphora is in trouble and what was tried for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tavia.diagnosis.evidence import Action, Evidence, Fact, Refusal, Verdict
from tavia.diagnosis.guard import HALTED, QUEUED, Candidate, Limits, guard
from tavia.diagnosis.verdict import EVIDENCE_MISSING, HEARTBEATS_LOST, SERVER_OFF_AGAIN, STILL_NOT_SERVING, verdict
from tavia.health.grace import Grace
from tavia.health.repairs import Order, Repairs
from tavia.health.witnesses import Heard, Suspect, Witnesses
from tavia.metrics import health as metrics
from tavia.model.statuses import Topology
from tavia.store import liveness
from tavia.store.database import Database
from tavia.store.liveness import Sibling, Troubled

LOOP_WINDOW = 60
"""Heartbeat timeouts in which the automatic failovers of one load balancer are counted: an hour by default."""


CARRIER_SHARE = 1 / 4
"""Of a heartbeat timeout that an interface must be without carrier to be told: more than an interval, by default."""

AGAIN: Mapping[str, Action] = {
    HEARTBEATS_LOST.code: Action.REPAIR,
    STILL_NOT_SERVING.code: Action.REPAIR,
    SERVER_OFF_AGAIN.code: Action.START,
}
"""What is tried for as long as a verdict lasts, ever more rarely, while its amphora is not replaced: what it lacked may
have been mended meanwhile."""
LONGEST_PAUSE = 10
"""Most heartbeat timeouts between two such tries: ten minutes by default."""


@dataclass
class _History:
    """Since when an amphora is in trouble, when it was started and repaired (all by the loop's clock).

    ``turn`` is the cycle in which it was last asked about, 0 for never, ``judged`` what was found then, and ``host``
    where its server is. ``tries`` of what is repeated, the next one at ``next_try``.
    """

    since: float
    started: float | None = None
    repaired: float | None = None
    turn: int = 0
    judged: Verdict | None = None
    host: str | None = None
    tries: int = 0
    next_try: float = -math.inf


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one cycle reads."""

    troubled: Sequence[Troubled]
    siblings: Sequence[Sibling]
    failovers: Mapping[str, int]
    amphorae: int
    heard: Sequence[Heard]

    def others(self, amphora: Troubled) -> list[Sibling]:
        """The other standing amphorae of its load balancer."""
        return [s for s in self.siblings if s.loadbalancer_id == amphora.loadbalancer_id and s.id != amphora.id]


class Watch:
    """``timeout`` is heartbeat_timeout, ``patience`` for how long a replacement counts as under way; seconds.

    ``refusal`` tells why heartbeats of an amphora that arrive are not taken.
    """

    def __init__(
        self,
        database: Database,
        witnesses: Witnesses,
        repairs: Repairs,
        grace: Grace,
        *,
        limits: Limits,
        timeout: float,
        patience: float,
        refusal: Callable[[str], Refusal | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._witnesses = witnesses
        self._repairs = repairs
        self._grace = grace
        self._limits = limits
        self._timeout = timeout
        self._patience = patience
        self._refusal = refusal
        self._clock = clock
        self._histories: dict[str, _History] = {}
        self._replacing: dict[str, float] = {}
        self._turn = 0

    def cycle(self) -> None:
        """Look, judge, have it done. Raises the database's errors."""
        if self._grace.active:
            metrics.guard("grace")
            return
        seen = self._look()
        well = [t for t in seen.troubled if self._is_well(t)]
        suspects = self._suspects([t for t in seen.troubled if not self._is_well(t)])
        orders = self._judge(suspects, seen) if suspects else []
        self._show(seen, suspects, orders)
        self._note(self._repairs.carry_out(orders, recovered=well, still_in_trouble=self._in_trouble_now))

    def _show(self, seen: _Seen, suspects: Sequence[Troubled], orders: Sequence[Order]) -> None:
        """To Prometheus."""
        metrics.AMPHORAE.set(seen.amphorae)
        metrics.SILENT.set(sum(self._is_silent(t) for t in seen.troubled))
        metrics.SUSPECTED.set(len(suspects))
        metrics.BUDGET.set(max(0, self._limits.threads - len(self._replacing)))
        codes = {order.verdict.code for order in orders}
        metrics.guard("halted" if codes & HALTED else "slow" if QUEUED in codes else "normal")

    def _look(self) -> _Seen:
        with self._database.read() as conn:
            troubled = liveness.troubled(conn, self._timeout)
            loadbalancer_ids = {t.loadbalancer_id for t in troubled}
            carrying = liveness.still_carrying(conn, self._replacing)
            seen = _Seen(
                troubled,
                liveness.siblings(conn, loadbalancer_ids, self._timeout),
                liveness.automatic_failovers(conn, loadbalancer_ids, LOOP_WINDOW * self._timeout),
                liveness.amphora_count(conn),
                liveness.some_heard(conn, self._timeout, but={t.id for t in troubled}) if troubled else [],
            )
        oldest = self._clock() - self._patience
        self._replacing = {i: at for i, at in self._replacing.items() if i in carrying and at >= oldest}
        return seen

    def _is_silent(self, amphora: Troubled) -> bool:
        return amphora.silent_for > self._timeout

    def _is_well(self, amphora: Troubled) -> bool:
        return not self._is_silent(amphora) and amphora.haproxy_up and not amphora.no_carrier

    def _in_trouble_now(self) -> set[str]:
        """Asking witnesses takes a while: who is in trouble after that?"""
        with self._database.read() as conn:
            return {t.id for t in liveness.troubled(conn, self._timeout) if not self._is_well(t)}

    def _suspects(self, ill: Sequence[Troubled]) -> list[Troubled]:
        """Those never asked about first, the newest death before others, then those whose last time is longest ago.

        So however many old troubles there are, a new one is judged in the next cycle, and all come round.

        One whose heartbeats stopped is a suspect at once. One that never sent any, or whose HAProxy is down, gets a
        timeout more: it may be about to begin. One that tells of an interface without carrier may just have got it: its
        next heartbeats must say so too.
        """
        now = self._clock()
        self._histories = {t.id: self._histories.get(t.id, _History(now)) for t in ill}
        ripe = [t for t in ill if now - self._histories[t.id].since >= self._patience_with(t)]
        return sorted(ripe, key=lambda t: (self._histories[t.id].turn, t.silent_for, t.id))

    def _patience_with(self, amphora: Troubled) -> float:
        if self._is_silent(amphora):
            return 0.0 if amphora.heard else self._timeout
        return self._timeout * (CARRIER_SHARE if amphora.haproxy_up else 1)

    def _judge(self, suspects: Sequence[Troubled], seen: _Seen) -> list[Order]:
        """Those asked about in this cycle are judged; the others count with what was found last."""
        self._turn += 1
        asked = [Suspect(t.id, t.compute_id, t.lb_network_ip, self._known(t, seen)) for t in suspects]
        evidence = self._witnesses.gather(asked, seen.heard)
        for amphora_id, facts in evidence.items():
            self._histories[amphora_id].turn = self._turn
            self._histories[amphora_id].judged = verdict(facts)
            self._histories[amphora_id].host = facts.host or self._histories[amphora_id].host
        candidates = [
            self._candidate(t, found if t.id in evidence else replace(found, action=Action.HOLD), seen)
            for t in suspects
            if (found := self._found(t, evidence))
        ]
        decided = guard(candidates, amphorae=seen.amphorae, under_way=len(self._replacing), limits=self._limits)
        by_id = {t.id: t for t in suspects}
        return [
            Order(by_id[c.amphora_id], decided[c.amphora_id], c.survivors, self._again(c, decided[c.amphora_id]))
            for c in candidates
            if c.amphora_id in evidence
        ]

    def _found(self, amphora: Troubled, evidence: Mapping[str, Evidence]) -> Verdict | None:
        """One about which nobody was ever asked is a silence that nothing explains: the guard must count it."""
        if amphora.id not in evidence and self._histories[amphora.id].turn == 0:
            return EVIDENCE_MISSING if self._is_silent(amphora) else None
        return self._histories[amphora.id].judged

    def _candidate(self, amphora: Troubled, found: Verdict, seen: _Seen) -> Candidate:
        return Candidate(
            amphora_id=amphora.id,
            verdict=found,
            silent=self._is_silent(amphora),
            survivors=sum(s.works for s in seen.others(amphora)),
            in_pair=amphora.topology is Topology.ACTIVE_STANDBY,
            failovers=seen.failovers.get(amphora.loadbalancer_id, 0),
            zone=amphora.zone,
            host=self._histories[amphora.id].host,
        )

    def _again(self, candidate: Candidate, decided: Verdict) -> Action | None:
        """What is repeated now, if anything is."""
        acted_on = decided.action in (Action.REPLACE, Action.START, Action.REPAIR)
        is_due = self._clock() >= self._histories[candidate.amphora_id].next_try
        return AGAIN.get(candidate.verdict.code) if is_due and not acted_on else None

    def _known(self, amphora: Troubled, seen: _Seen) -> Evidence:
        history, now = self._histories[amphora.id], self._clock()
        silent = self._is_silent(amphora)
        peer_words: list[Fact] = [s.peer_seen for s in seen.others(amphora)]
        return Evidence(
            heartbeats=not silent,
            refused=self._refusal(amphora.id),
            serves=None if silent else amphora.haproxy_up,
            no_carrier="" if silent else amphora.no_carrier,
            repaired=history.repaired is not None,
            repairing=history.repaired is not None and now - history.repaired < self._timeout,
            started=history.started is not None,
            starting=history.started is not None and now - history.started < self._timeout,
            peer_sees_it=peer_words[0] if len(peer_words) == 1 else None,
        )

    def _note(self, done: Sequence[Order]) -> None:
        """Remember what was tried, and until when it is not tried again."""
        now = self._clock()
        for order in done:
            history = self._histories[order.amphora.id]
            if order.again:
                history.next_try = now + self._timeout * min(2**history.tries, LONGEST_PAUSE)
                history.tries = min(history.tries + 1, LONGEST_PAUSE)
            elif order.verdict.action is Action.REPLACE:
                self._replacing[order.amphora.id] = now
            elif order.verdict.action is Action.START:
                history.started = now
            elif order.verdict.action is Action.REPAIR:
                history.repaired = now
