"""What compute says of a server becomes evidence about its amphora."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from fleet import status

from tavia.amphora.client import TlsRefused
from tavia.amphora.protocol import AgentStatus
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Server, ServerStatus
from tavia.diagnosis.evidence import Evidence, Fact
from tavia.health import witnesses
from tavia.health.witnesses import AskAgent, Suspect, Witnesses


class OneServer(NoopCloud):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._servers.put(server)


@pytest.mark.parametrize(
    ("status", "busy", "runs", "expected"),
    [
        (ServerStatus.ACTIVE, False, True, False),
        (ServerStatus.ACTIVE, True, True, True),
        (ServerStatus.OFF, True, False, True),
        (ServerStatus.BUILDING, False, None, True),
        (ServerStatus.UNKNOWN, False, None, False),
    ],
)
def test_a_server_that_compute_works_on_is_busy(status: ServerStatus, busy: bool, runs: Fact, expected: bool) -> None:
    server = Server(id="s", name="s", status=status, created_at=0.0, busy=busy)
    its = Witnesses(OneServer(server), lambda *_: pytest.fail("nobody is asked"), frozenset(), 1)
    try:
        evidence = its.gather([Suspect("a", "s", None, Evidence())], [])["a"]
    finally:
        its.close()
    assert (evidence.server_runs, evidence.server_busy) == (runs, expected)


class Counting(NoopCloud):
    """What it is asked for: "all", or a server's id."""

    def __init__(self, server_ids: Sequence[str]) -> None:
        super().__init__()
        self.asked: list[str] = []
        for name in server_ids:
            self._servers.put(Server(id=name, name=name, status=ServerStatus.ACTIVE, created_at=0.0))

    def server(self, server_id: str) -> Server | None:
        self.asked.append(server_id)
        return self._servers.get(server_id)

    def servers(self, tags: frozenset[str]) -> list[Server]:
        self.asked.append("all")
        return super().servers(tags)


def gathered(cloud: Counting, suspects: Sequence[str], heard: str | None) -> dict[str, Evidence]:
    answers: AskAgent = lambda *_: pytest.fail("nobody has an address")  # noqa: E731
    its = Witnesses(cloud, answers, frozenset(), 1)
    try:
        known = [Suspect(name, name, None, Evidence()) for name in suspects]
        return its.gather(known, [(heard, "198.18.0.1", heard)] if heard else [])
    finally:
        its.close()


def test_of_a_few_each_is_asked_for_by_name_however_many_servers_there_are() -> None:
    cloud = Counting([f"s{number}" for number in range(1000)])
    evidence = gathered(cloud, ["s1", "gone"], "s7")
    assert sorted(cloud.asked) == ["gone", "s1", "s7"]
    assert (evidence["s1"].server_exists, evidence["gone"].server_exists) == (True, False)
    assert all(each.another_server_visible for each in evidence.values())


def test_where_compute_shows_not_even_the_server_of_one_that_is_heard_nothing_else_is_visible() -> None:
    assert not gathered(Counting([]), ["gone"], "s7")["gone"].another_server_visible


@pytest.mark.parametrize("number", [11, 60])
def test_of_many_too_each_is_asked_for_by_name_and_one_that_is_heard_is_witness_enough(number: int) -> None:
    cloud = Counting([f"s{each}" for each in range(5000)])
    evidence = gathered(cloud, [*(f"s{each}" for each in range(number)), "gone"], "s99")
    assert "all" not in cloud.asked
    assert len(cloud.asked) == number + 2
    assert all(each.another_server_visible for each in evidence.values())
    assert not evidence["gone"].server_exists


def test_suspects_whose_servers_compute_shows_are_witnesses_for_each_other() -> None:
    cloud = Counting(["s1", "s2"])
    evidence = gathered(cloud, ["s1", "gone"], None)
    assert evidence["gone"].another_server_visible
    assert not evidence["s1"].another_server_visible
    assert "all" not in cloud.asked


def test_only_where_compute_shows_none_that_it_was_asked_for_is_its_list_asked() -> None:
    cloud = Counting(["s1"])
    assert gathered(cloud, ["gone"], None)["gone"].another_server_visible
    assert cloud.asked == ["gone", "all"]


class Patient(Counting):
    """Compute that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(["s1", "s2"])
        self._seconds = seconds

    def server(self, server_id: str) -> Server | None:
        time.sleep(self._seconds)
        return super().server(server_id)


def test_no_more_are_asked_about_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnesses, "COMPUTE_SECONDS", 1.0)
    began = time.monotonic()
    evidence = gathered(Patient(0.2), [f"s{each}" for each in range(50)], None)
    assert time.monotonic() - began < 8
    assert 1 <= len(evidence) < 40
    assert next(iter(evidence)) == "s0"


def test_eight_agents_that_keep_us_waiting_take_no_more_than_the_time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnesses, "AGENT_SECONDS", 2.0)
    ends = threading.Event()

    def answer(amphora_id: str, _address: str) -> AgentStatus:
        if amphora_id != "good":
            ends.wait(20)
        return status(amphora_id)

    names = [f"bad{each}" for each in range(8)]
    its = Witnesses(NoopCloud(), answer, frozenset(), 10)
    began = time.monotonic()
    try:
        evidence = its.gather([Suspect(name, None, "198.18.0.1", Evidence()) for name in [*names, "good"]], [])
        assert time.monotonic() - began < 8
        assert evidence["good"].agent_answers
        assert [evidence[name].agent_answers for name in names] == [None] * 8
    finally:
        ends.set()
        its.close()


def test_what_one_agent_answers_hurts_no_other() -> None:
    def answer(amphora_id: str, _address: str) -> AgentStatus:
        if amphora_id == "bad":
            raise RecursionError("nobody foresaw it")
        return status(amphora_id)

    its = Witnesses(NoopCloud(), answer, frozenset(), 2)
    try:
        evidence = its.gather([Suspect(name, None, "198.18.0.1", Evidence()) for name in ("bad", "good")], [])
    finally:
        its.close()
    assert (evidence["bad"].agent_answers, evidence["good"].agent_answers) == (None, True)


@pytest.mark.parametrize(("lying", "elsewhere"), [(1, False), (3, True)])
def test_one_healthy_amphora_that_refuses_tls_does_not_speak_for_all_of_them(lying: int, elsewhere: bool) -> None:
    def answer(amphora_id: str, _address: str) -> AgentStatus:
        if amphora_id in ("ill", *[f"heard{each}" for each in range(lying)]):
            raise TlsRefused("controller", "expired")
        return status(amphora_id)

    its = Witnesses(NoopCloud(), answer, frozenset(), 4)
    heard = [(f"heard{each}", "198.18.0.2", f"server{each}") for each in range(3)]
    try:
        evidence = its.gather([Suspect("ill", None, "198.18.0.1", Evidence())], heard)
    finally:
        its.close()
    assert evidence["ill"].tls_fails_elsewhere is elsewhere
