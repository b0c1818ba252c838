"""The storm guard: which of the replacements that verdicts ask for may go ahead now. Pure; health calls it each cycle.

What is held is looked at again in the next cycle, so it resumes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tavia.diagnosis.evidence import Action, Verdict
from tavia.diagnosis.verdict import UNEXPLAINED
from tavia.model.seams import Seam

FEWEST_FOR_SHARE = 3
"""Fewer unexplained silences than this are never taken for a network's failure."""

LOOP_LIMIT = 5
"""Automatic failovers of one load balancer in the guard's window from which no more are made."""


QUEUED = "failover-queue"
"""The code of a verdict that waits for its turn."""
HALTED = frozenset({"many-silent", "failover-threshold"})
"""Codes of verdicts that are not acted on because too many amphorae are silent."""

SPENDING = (Action.REPLACE, Action.START)
"""What spends from the threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An amphora in trouble, with its verdict.

    ``silent``: its heartbeats stopped. ``survivors``: how many other amphorae of its load balancer do their work.
    ``in_pair``: its load balancer should have two. ``failovers``: automatic ones of its load balancer in the window.
    ``zone`` and ``host``: the availability zone and the compute host that its server is in, None where nobody tells.
    """

    amphora_id: str
    verdict: Verdict
    silent: bool
    survivors: int
    in_pair: bool
    failovers: int
    zone: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``threads``: replacements at a time; ``share``: of all amphorae; ``threshold``: silent ones, None is off."""

    threads: int
    share: float
    threshold: int | None = None


def guard(candidates: Sequence[Candidate], *, amphorae: int, under_way: int, limits: Limits) -> Mapping[str, Verdict]:
    """The verdict of each candidate as it may be acted on now: one that must wait becomes HOLD, and says why.

    ``amphorae`` is how many there are in all, ``under_way`` how many of this health manager's replacements have not
    ended. Proven deaths spend from the threads, but they are no silence. Pairs with no survivor go first, then single
    ones, then degraded pairs; of equals the first given. In the grace after a start or an outage of the database
    nobody is judged at all.
    """
    unexplained = sum(c.verdict.code in UNEXPLAINED for c in candidates)
    silent = sum(c.silent for c in candidates)
    free = max(0, limits.threads - under_way)
    decided = {c.amphora_id: c.verdict for c in candidates}
    for candidate in _by_urgency(c for c in candidates if c.verdict.action in SPENDING):
        objection = _threshold(candidate, silent, limits)
        objection = objection or _share(candidate, unexplained, amphorae, limits)
        objection = objection or _loop(candidate)
        if objection is None and free:
            free -= 1
            continue
        turn = f"{limits.threads} others are being replaced or started, see failover_threads"
        decided[candidate.amphora_id] = objection or _held(candidate, Action.HOLD, QUEUED, turn)
    return decided


def _threshold(candidate: Candidate, silent: int, limits: Limits) -> Verdict | None:
    if limits.threshold is None or silent < limits.threshold:
        return None
    why = f"{silent} amphorae are silent, failover_threshold is {limits.threshold}"
    return _held(candidate, Action.ALARM, "failover-threshold", why)


def _share(candidate: Candidate, unexplained: int, amphorae: int, limits: Limits) -> Verdict | None:
    many = unexplained >= FEWEST_FOR_SHARE and unexplained > limits.share * amphorae
    if not many or candidate.verdict.code not in UNEXPLAINED:
        return None
    return Verdict(
        Seam.MGMT_NET,
        "many-silent",
        Action.ALARM,
        f"{unexplained} of {amphorae} amphorae are silent at once and nothing explains it: the management network or "
        "this controller is at fault, no amphora is replaced until fewer are silent (failover_share)",
    )


def _loop(candidate: Candidate) -> Verdict | None:
    if candidate.failovers < LOOP_LIMIT:
        return None
    why = f"its load balancer failed over {candidate.failovers} times lately, which did not help"
    return _held(candidate, Action.ALARM, "failover-loop", why)


def _by_urgency(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (candidate.survivors > 0, not candidate.in_pair))


def _held(candidate: Candidate, action: Action, code: str, why: str) -> Verdict:
    sentence = f"{candidate.verdict.sentence}; nothing is done yet: {why}"
    return replace(candidate.verdict, action=action, code=code, sentence=sentence)
