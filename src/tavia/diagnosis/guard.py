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


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An amphora in trouble, with its verdict.

    ``silent``: its heartbeats stopped. ``survivors``: how many other amphorae of its load balancer do their work.
    ``in_pair``: its load balancer should have two. ``failovers``: automatic ones of its load balancer in the window.
    """

    amphora_id: str
    verdict: Verdict
    silent: bool = True
    survivors: int = 0
    in_pair: bool = False
    failovers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``threads``: replacements at a time; ``share``: of all amphorae; ``threshold``: silent ones, None is off."""

    threads: int
    share: float
    threshold: int | None = None


def guard(candidates: Sequence[Candidate], *, amphorae: int, under_way: int, limits: Limits) -> Mapping[str, Verdict]:
    """The verdict of each candidate as it may be acted on now: a replacement that must wait becomes HOLD, and says why.

    ``amphorae`` is how many there are in all, ``under_way`` how many of this health manager's replacements have not
    ended. Proven deaths spend from the threads, but they are no silence. Pairs with no survivor go first, then single
    ones, then degraded pairs. In the grace after a start or an outage of the database nobody is judged at all.
    """
    unexplained = sum(c.verdict.code in UNEXPLAINED for c in candidates)
    silent = sum(c.silent for c in candidates)
    free = max(0, limits.threads - under_way)
    decided = {c.amphora_id: c.verdict for c in candidates}
    for candidate in _by_urgency(c for c in candidates if c.verdict.action is Action.REPLACE):
        is_unexplained = candidate.verdict.code in UNEXPLAINED
        if limits.threshold is not None and silent >= limits.threshold:
            held = _held(
                candidate, "failover-threshold", f"{silent} are silent, failover_threshold is {limits.threshold}"
            )
        elif is_unexplained and unexplained >= FEWEST_FOR_SHARE and unexplained > limits.share * amphorae:
            held = _many_silent(unexplained, amphorae)
        elif candidate.failovers >= LOOP_LIMIT:
            held = _held(
                candidate, "failover-loop", f"its load balancer failed over {candidate.failovers} times lately"
            )
        elif not free:
            held = _held(
                candidate, "failover-queue", f"{limits.threads} others are being replaced, see failover_threads"
            )
        else:
            free -= 1
            continue
        decided[candidate.amphora_id] = held
    return decided


def _by_urgency(candidates: Iterable[Candidate]) -> list[Candidate]:
    def urgency(candidate: Candidate) -> tuple[int, str]:
        if candidate.survivors:
            return 2, candidate.amphora_id
        return (0 if candidate.in_pair else 1), candidate.amphora_id

    return sorted(candidates, key=urgency)


def _held(candidate: Candidate, code: str, why: str) -> Verdict:
    sentence = f"{candidate.verdict.sentence}; it is not replaced yet: {why}"
    return replace(candidate.verdict, action=Action.HOLD, code=code, sentence=sentence)


def _many_silent(unexplained: int, amphorae: int) -> Verdict:
    return Verdict(
        Seam.MGMT_NET,
        "many-silent",
        Action.ALARM,
        f"{unexplained} of {amphorae} amphorae are silent at once and nothing explains it: the management network or "
        "this controller is at fault, no amphora is replaced until fewer are silent (failover_share)",
    )
