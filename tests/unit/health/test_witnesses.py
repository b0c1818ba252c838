"""What compute says of a server becomes evidence about its amphora."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Server, ServerStatus
from tavia.diagnosis.evidence import Evidence, Fact
from tavia.health.witnesses import FEW, AskAgent, Suspect, Witnesses


class OneServer(NoopCloud):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._servers[server.id] = server


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
    witnesses = Witnesses(OneServer(server), lambda *_: pytest.fail("nobody is asked"), frozenset(), 1)
    try:
        evidence = witnesses.gather([Suspect("a", "s", None, Evidence())], None)["a"]
    finally:
        witnesses.close()
    assert (evidence.server_runs, evidence.server_busy) == (runs, expected)


class Counting(NoopCloud):
    """What it is asked for: "all", or a server's id."""

    def __init__(self, server_ids: Sequence[str]) -> None:
        super().__init__()
        self.asked: list[str] = []
        for name in server_ids:
            self._servers[name] = Server(id=name, name=name, status=ServerStatus.ACTIVE, created_at=0.0)

    def server(self, server_id: str) -> Server | None:
        self.asked.append(server_id)
        return self._servers.get(server_id)

    def servers(self, tags: frozenset[str]) -> list[Server]:
        self.asked.append("all")
        return super().servers(tags)


def gathered(cloud: Counting, suspects: Sequence[str], heard: str | None) -> dict[str, Evidence]:
    answers: AskAgent = lambda *_: pytest.fail("nobody has an address")  # noqa: E731
    witnesses = Witnesses(cloud, answers, frozenset(), 1)
    try:
        known = [Suspect(name, name, None, Evidence()) for name in suspects]
        return witnesses.gather(known, (heard, "198.18.0.1", heard) if heard else None)
    finally:
        witnesses.close()


def test_of_a_few_each_is_asked_for_by_name_however_many_servers_there_are() -> None:
    cloud = Counting([f"s{number}" for number in range(1000)])
    evidence = gathered(cloud, ["s1", "gone"], "s7")
    assert sorted(cloud.asked) == ["gone", "s1", "s7"]
    assert (evidence["s1"].server_exists, evidence["gone"].server_exists) == (True, False)
    assert all(each.another_server_visible for each in evidence.values())


def test_where_compute_shows_not_even_the_server_of_one_that_is_heard_nothing_else_is_visible() -> None:
    assert not gathered(Counting([]), ["gone"], "s7")["gone"].another_server_visible


@pytest.mark.parametrize(("suspects", "heard"), [(FEW + 1, "s99"), (1, None)])
def test_of_many_and_where_nobody_is_heard_all_are_listed_once(suspects: int, heard: str | None) -> None:
    cloud = Counting([f"s{number}" for number in range(100)])
    evidence = gathered(cloud, [f"s{number}" for number in range(suspects)], heard)
    assert cloud.asked == ["all"]
    assert all(each.server_exists and each.another_server_visible for each in evidence.values())
