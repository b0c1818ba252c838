"""The storm guard: how many replacements may go ahead, which first, and what is said of those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tavia.diagnosis import verdict as verdicts
from tavia.diagnosis.evidence import Action, Verdict
from tavia.diagnosis.guard import Candidate, Limits, guard

LIMITS = Limits(threads=10, share=0.2)


def candidate(amphora_id: str, verdict: Verdict = verdicts.SILENT, **given: Any) -> Candidate:
    """The only amphora of its load balancer, silent for the first time."""
    alone = {"silent": True, "survivors": 0, "in_pair": False, "failovers": 0}
    return Candidate(amphora_id=amphora_id, verdict=verdict, **alone | given)


def candidates(count: int, verdict: Verdict = verdicts.SILENT, **given: Any) -> list[Candidate]:
    return [candidate(f"a{n}", verdict, **given) for n in range(count)]


def replaced(
    them: Sequence[Candidate], *, amphorae: int = 100, under_way: int = 0, limits: Limits = LIMITS
) -> list[str]:
    decided = guard(them, amphorae=amphorae, under_way=under_way, limits=limits)
    return [amphora_id for amphora_id, verdict in decided.items() if verdict.action is Action.REPLACE]


def codes(them: Sequence[Candidate], amphorae: int = 100, limits: Limits = LIMITS) -> set[str]:
    return {v.code for v in guard(them, amphorae=amphorae, under_way=0, limits=limits).values()}


@pytest.mark.parametrize(
    ("silent", "amphorae", "allowed"),
    [
        (1, 1, 1),  # the only one there is
        (2, 2, 2),  # fewer than three are never called many
        (3, 3, 0),
        (3, 14, 0),  # 21 %
        (3, 15, 3),  # 20 %: not beyond the share
        (20, 100, 10),  # within the share: failover_threads at a time
        (21, 100, 0),
    ],
)
def test_from_three_unexplained_silences_up_the_share_decides(silent: int, amphorae: int, allowed: int) -> None:
    assert len(replaced(candidates(silent), amphorae=amphorae)) == allowed


def test_held_by_the_share_all_say_that_many_are_silent_and_blame_the_network() -> None:
    assert codes(candidates(30)) == {"many-silent"}


def test_proven_deaths_are_no_silence_and_go_ahead_while_a_network_failure_is_suspected() -> None:
    dead = [candidate("dead", verdicts.SERVER_GONE)]
    assert replaced([*candidates(30), *dead]) == ["dead"]
    assert replaced(candidates(5, verdicts.SERVER_GONE), amphorae=5) == ["a0", "a1", "a2", "a3", "a4"]


def test_silences_of_which_the_evidence_is_missing_count_as_unexplained() -> None:
    unknown = [candidate(f"u{n}", verdicts.EVIDENCE_MISSING) for n in range(20)]
    assert replaced([*candidates(1), *unknown]) == []


def test_those_whose_agent_answers_are_no_silence() -> None:
    answering = [candidate(f"h{n}", verdicts.HEARTBEATS_LOST) for n in range(50)]
    assert replaced([*candidates(1), *answering]) == ["a0"]


def test_failover_threshold_stops_everything_at_that_many_silent_amphorae_as_octavias_does() -> None:
    limits = Limits(threads=10, share=1.0, threshold=3)
    assert replaced(candidates(2), limits=limits) == ["a0", "a1"]
    assert replaced(candidates(3), limits=limits) == []
    assert codes(candidates(3, verdicts.SERVER_GONE), limits=limits) == {"failover-threshold"}


def test_failover_threads_bounds_what_is_under_way_and_the_rest_waits_its_turn() -> None:
    limits = Limits(threads=3, share=1.0)
    assert len(replaced(candidates(5), under_way=1, limits=limits)) == 2
    assert replaced(candidates(5), under_way=4, limits=limits) == []
    assert codes(candidates(5), limits=limits) == {"silent", "failover-queue"}


def test_who_is_held_says_what_is_wrong_with_it_and_which_option_holds_it() -> None:
    held = {
        "failover_threads": Limits(threads=0, share=1.0),
        "failover_threshold": Limits(threads=9, share=1.0, threshold=1),
    }
    for option, limits in held.items():
        sentence = guard([candidate("a")], amphorae=9, under_way=0, limits=limits)["a"].sentence
        assert sentence.startswith(verdicts.SILENT.sentence)
        assert option in sentence


def test_pairs_without_a_survivor_go_first_then_single_ones_then_degraded_pairs() -> None:
    degraded = candidate("a", in_pair=True, survivors=1)
    single = candidate("b")
    lost_pair = candidate("c", in_pair=True)
    them = [degraded, single, lost_pair]
    assert replaced(them, limits=Limits(threads=1, share=1.0)) == ["c"]
    assert replaced(them, limits=Limits(threads=2, share=1.0)) == ["b", "c"]


def test_of_equals_the_first_given_goes_first() -> None:
    assert replaced([candidate("z"), candidate("a")], limits=Limits(threads=1, share=1.0)) == ["z"]


def test_who_is_neither_replaced_nor_started_keeps_its_verdict_and_spends_nothing() -> None:
    them = [*candidates(5, verdicts.HEARTBEATS_LOST), candidate("gone", verdicts.SERVER_GONE)]
    decided = guard(them, amphorae=100, under_way=0, limits=Limits(threads=1, share=0.2))
    assert decided == {c.amphora_id: c.verdict for c in them}


def test_a_load_balancer_that_failed_over_five_times_is_left_alone_and_says_why() -> None:
    looping = candidates(1, failovers=5)
    assert replaced(looping) == []
    assert codes(looping) == {"failover-loop"}
    assert replaced(candidates(1, failovers=4)) == ["a0"]


def test_starting_a_server_spends_from_the_same_budget() -> None:
    off = candidates(5, verdicts.SERVER_OFF)
    decided = guard(off, amphorae=100, under_way=0, limits=Limits(threads=2, share=0.2))
    assert sum(v.action is Action.START for v in decided.values()) == 2


ANY = st.lists(
    st.builds(
        Candidate,
        amphora_id=st.uuids().map(str),
        verdict=st.sampled_from(
            [verdicts.SILENT, verdicts.SERVER_GONE, verdicts.HEARTBEATS_LOST, verdicts.SERVER_BUSY]
        ),
        silent=st.booleans(),
        survivors=st.integers(0, 1),
        in_pair=st.booleans(),
        failovers=st.integers(0, 8),
    ),
    max_size=60,
    unique_by=lambda c: c.amphora_id,
)


@given(ANY, st.integers(0, 200), st.integers(0, 20), st.integers(1, 20), st.floats(0, 1))
def test_whatever_happens_no_more_are_replaced_than_the_limits_allow(
    them: list[Candidate], healthy: int, under_way: int, threads: int, share: float
) -> None:
    amphorae = len(them) + healthy
    going = replaced(them, amphorae=amphorae, under_way=under_way, limits=Limits(threads=threads, share=share))
    silences = [c for c in them if c.verdict is verdicts.SILENT]
    assert len(going) <= max(0, threads - under_way)
    if len(silences) >= 3 and len(silences) > share * amphorae:
        assert not {c.amphora_id for c in silences} & set(going)
