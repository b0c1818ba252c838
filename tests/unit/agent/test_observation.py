"""HAProxy's statistics in the heartbeat's terms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tavia.agent import observation as agent_observation
from tavia.agent.observation import Observation, Totals, observation
from tavia.agent.stats_socket import SocketSilent, worker_pid
from tavia.amphora.heartbeat import ListenerReport, ListenerStats, PoolReport

HEADER = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,x"
)


def frontend(name: str, current: int, limit: int | str) -> str:
    return f"{name},FRONTEND,,,{current},9,{limit},40,10,20,0,0,3,,,,,OPEN,,"


def server(backend: str, name: str, status: str, weight: int = 1) -> str:
    return f"{backend},{name},0,0,0,0,,0,0,0,,0,,0,0,0,0,{status},{weight},free text, with commas"


def answer(*rows: str) -> str:
    return "\n".join(["Name: HAProxy", "Pid: 17", "", HEADER, *rows, ""])


def members(*rows: str) -> dict[str, str]:
    return dict(observation(answer(*rows, server("app:web", "BACKEND", "UP")), ()).pools["app"].members)


def test_a_frontend_is_a_listener_and_full_at_its_limit() -> None:
    seen = observation(answer(frontend("web", 1, 2), frontend("full", 2, 2), frontend("unlimited", 5, "")), ())
    assert seen.worker == 17
    assert {name: report.status for name, report in seen.listeners.items()} == {
        "web": "OPEN",
        "full": "FULL",
        "unlimited": "OPEN",
    }
    assert seen.listeners["web"].stats == ListenerStats(tx=20, rx=10, conns=1, totconns=40, ereq=3)


def test_a_member_s_word_is_haproxy_s_without_how_far_a_check_is() -> None:
    words = {"a": "* UP 1/3", "b": "DOWN 1/2", "c": "no check", "d": "MAINT", "e": "DRAIN", "f": "* DOWN"}
    seen = members(*(server("app:web", name, status) for name, status in words.items()))
    assert seen == {"a": "UP", "b": "DOWN", "c": "no check", "d": "MAINT", "e": "DRAIN", "f": "DOWN"}


def test_a_member_that_is_up_with_weight_0_drains() -> None:
    assert members(server("app:web", "a", "UP", 0), server("app:web", "b", "DOWN", 0)) == {"a": "DRAIN", "b": "DOWN"}


def test_of_a_pool_behind_two_listeners_the_worse_word_counts() -> None:
    rows = (server("app:web", "a", "UP"), server("app:web", "BACKEND", "UP"))
    other = (server("app:two", "a", "DOWN"), server("app:two", "BACKEND", "DOWN"))
    for order in (rows + other, other + rows):
        assert observation(answer(*order), ()).pools == {"app": PoolReport(status="DOWN", members={"a": "DOWN"})}


def test_a_member_that_is_leaving_is_none_any_more() -> None:
    rows = (server("app:web", "a", "MAINT"), server("app:web", "b", "UP"), server("app:web", "BACKEND", "UP"))
    assert dict(observation(answer(*rows), {"app:web/a"}).pools["app"].members) == {"b": "UP"}


def test_what_is_not_ours_is_left_out() -> None:
    assert observation(answer(server("stats", "BACKEND", "UP")), ()).pools == {}


def report(count: int) -> dict[str, ListenerReport]:
    stats = ListenerStats(tx=count, rx=count, conns=1, totconns=count, ereq=count)
    return {"web": ListenerReport(status="OPEN", stats=stats)}


def test_totals_go_on_when_a_new_worker_begins_at_0_and_after_the_agent_s_restart(tmp_path: Path) -> None:
    def seen(worker: int, count: int) -> int:
        return totals.add(Observation(worker, report(count), {}))["web"].stats.totconns

    totals = Totals(tmp_path / "totals")
    assert [seen(1, 5), seen(1, 7), seen(2, 0), seen(2, 3), seen(3, 1)] == [5, 7, 7, 10, 11]
    totals = Totals(tmp_path / "totals")
    assert [seen(3, 2), seen(4, 1)] == [12, 13]


def test_totals_go_on_after_a_reboot_that_gives_the_worker_the_same_process_id(tmp_path: Path) -> None:
    Totals(tmp_path / "totals").add(Observation(19, report(5), {}))
    totals = Totals(tmp_path / "totals")
    totals.begin_anew()
    assert totals.add(Observation(19, report(1), {}))["web"].stats.totconns == 6


def test_current_connections_are_not_added_up(tmp_path: Path) -> None:
    totals = Totals(tmp_path / "totals")
    totals.add(Observation(1, report(5), {}))
    assert totals.add(Observation(2, report(5), {}))["web"].stats.conns == 1


def test_totals_go_on_after_a_worker_ended_and_another_has_its_process_id(tmp_path: Path) -> None:
    totals = Totals(tmp_path / "totals")
    counts = (totals.add(Observation(1, report(count), {}))["web"].stats.totconns for count in (5, 2, 4))
    assert list(counts) == [5, 7, 9]


def test_a_listener_s_totals_go_on_when_it_was_switched_off_over_any_number_of_reloads(tmp_path: Path) -> None:
    totals = Totals(tmp_path / "totals")
    totals.add(Observation(1, report(5), {}))
    for worker in range(2, 6):
        assert totals.add(Observation(worker, {}, {})) == {}
        totals = Totals(tmp_path / "totals")
    assert totals.add(Observation(6, report(1), {}))["web"].stats.totconns == 6
    totals.add(Observation(6, {}, {}))
    assert totals.add(Observation(6, report(2), {}))["web"].stats.totconns == 7


def test_of_listeners_that_come_and_go_without_end_the_last_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_observation, "MOST_ABSENT", 2)
    totals = Totals(tmp_path / "totals")
    for number in range(6):
        totals.add(Observation(number, {f"web-{number}": report(5)["web"]}, {}))
    assert set(json.loads((tmp_path / "totals").read_text())["base"]) == {"web-3", "web-4"}


@pytest.mark.parametrize("info", ["", "Name: HAProxy\n", "Pid: abc\n", "Pid: \n", "Pid: 0x1f\n"])
def test_an_answer_without_a_process_id_is_none(info: str) -> None:
    """Whoever broke into HAProxy answers what they like: the agent goes on, and takes it for silent."""
    with pytest.raises(SocketSilent):
        worker_pid(info)
