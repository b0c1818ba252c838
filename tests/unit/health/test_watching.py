"""From silence to replacement, over a real database: evidence first, never too many, never twice, never in silence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fleet import TIMEOUT, Fleet, counted_statements
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tavia.amphora.client import TlsRefused
from tavia.cloud.protocols import ServerStatus
from tavia.diagnosis.evidence import Refusal, Verdict
from tavia.diagnosis.guard import LOOP_LIMIT, Candidate, Limits, guard
from tavia.health import watching, witnesses
from tavia.health.grace import Grace
from tavia.health.watching import _History
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, Topology
from tavia.store import intents, liveness, schema


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


def fault(fleet: Fleet, amphora_id: str) -> str | None:
    its = fleet.row(amphora_id).fault
    return str(its["code"]) if its else None


def test_a_silent_amphora_is_replaced_the_load_balancer_says_so_and_a_worker_is_woken(fleet: Fleet) -> None:
    (amphora_id,), (other,) = fleet.add(), fleet.add()
    fleet.silence(amphora_id)
    before = fleet.loadbalancer(amphora_id)
    fleet.watch().cycle()
    after = fleet.loadbalancer(amphora_id)
    assert fleet.marked() == [amphora_id]
    assert fleet.row(amphora_id).replace_generation == after.generation == before.generation + 1
    assert (after.provisioning_status, after.operating_status) == ("PENDING_UPDATE", "ERROR")
    assert fleet.journal() == [("automatic-failover", "silent")]
    assert fleet.wakes
    assert fault(fleet, amphora_id) == "silent"
    assert fleet.loadbalancer(other).operating_status == "ONLINE"


def test_one_that_is_being_replaced_is_not_marked_again(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    watch = fleet.watch()
    watch.cycle()
    generation = fleet.loadbalancer(amphora_id).generation
    with counted_statements(fleet.database) as statements:
        watch.cycle()
        fleet.watch().cycle()  # another health manager
    assert not [s for s in statements if s.startswith("UPDATE")]
    assert fleet.loadbalancer(amphora_id).generation == generation
    assert len(fleet.journal()) == 1


def test_the_dead_half_of_a_pair_is_replaced_and_the_load_balancer_stays_online(fleet: Fleet) -> None:
    dead, alive = fleet.add(Topology.ACTIVE_STANDBY)
    fleet.silence(dead)
    fleet.watch().cycle()
    assert fleet.marked() == [dead]
    assert fleet.loadbalancer(alive).operating_status == "ONLINE"


def test_a_pair_of_which_both_are_dead_is_one_change(fleet: Fleet) -> None:
    pair = fleet.add(Topology.ACTIVE_STANDBY)
    fleet.silence(*pair)
    generation = fleet.loadbalancer(pair[0]).generation
    fleet.watch().cycle()
    assert sorted(fleet.marked()) == sorted(pair)
    assert fleet.loadbalancer(pair[0]).generation == generation + 1
    assert fleet.loadbalancer(pair[0]).operating_status == "ERROR"
    assert fleet.journal() == [("automatic-failover", "silent")]


def test_who_answers_on_9443_is_never_replaced_the_alarm_is_said_once_and_cleared(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    fleet.answering[amphora_id] = True
    watch = fleet.watch()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watch.cycle()
    assert fleet.marked() == []
    assert fault(fleet, amphora_id) == "heartbeats-lost"
    assert fleet.row(amphora_id).fault["seam"] == "mgmt-net"
    assert fleet.journal() == [("amphora-alarm", "heartbeats-lost")]
    assert len([r for r in caplog.records if amphora_id in r.getMessage()]) == 1
    with counted_statements(fleet.database) as statements:
        watch.cycle()
    assert not [s for s in statements if s.startswith(("BEGIN IMMEDIATE", "UPDATE", "INSERT"))]
    fleet.heard(amphora_id)
    watch.cycle()
    assert fault(fleet, amphora_id) is None


def test_an_amphora_that_never_sent_a_heartbeat_gets_a_timeout_from_when_it_serves(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.heard(amphora_id)
    fleet.database.write(lambda conn: conn.execute(schema.amphora_health.delete()))
    watch = fleet.watch()
    watch.cycle()
    assert fleet.marked() == []
    fleet.clock.now += TIMEOUT
    watch.cycle()
    assert fleet.marked() == [amphora_id]


def test_a_server_that_is_gone_while_others_are_visible_is_replaced_also_amid_many_silences(fleet: Fleet) -> None:
    silent = [fleet.add()[0] for _ in range(4)]
    (gone,) = fleet.add()
    fleet.silence(*silent, gone)
    fleet.cloud.delete(fleet.row(gone).compute_id)
    fleet.watch().cycle()
    assert fleet.marked() == [gone]
    assert {fault(fleet, i) for i in silent} == {"many-silent"}


def test_when_every_server_is_gone_the_credentials_may_be_wrong_and_nothing_is_proven(fleet: Fleet) -> None:
    amphorae = [fleet.add()[0] for _ in range(3)]
    fleet.silence(*amphorae)
    for amphora_id in amphorae:
        fleet.cloud.delete(fleet.row(amphora_id).compute_id)
    fleet.watch().cycle()
    assert fleet.marked() == []


def test_a_server_that_is_off_is_started_once_then_replaced(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    server_id = fleet.row(amphora_id).compute_id
    fleet.cloud.power_off(server_id)
    watch = fleet.watch()
    watch.cycle()
    server = fleet.cloud.server(server_id)
    assert server and server.status is ServerStatus.ACTIVE
    watch.cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([], "server-starting")
    fleet.cloud.power_off(server_id)
    fleet.clock.now += TIMEOUT
    watch.cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([amphora_id], "server-off-again")


def test_while_compute_cannot_be_asked_nobody_is_replaced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise SeamError(Seam.CONTROL, "compute-away", "no answer")

    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    with monkeypatch.context() as away:
        away.setattr(fleet.cloud, "servers", refuse)
        away.setattr(fleet.cloud, "server", refuse)
        fleet.watch().cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([], "evidence-missing")
    fleet.watch().cycle()
    assert fleet.marked() == [amphora_id]


def test_haproxy_that_stays_down_is_pushed_again_then_replaced(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.answering[amphora_id] = False
    fleet.heard(amphora_id, haproxy_up=False)
    watch = fleet.watch()
    watch.cycle()
    assert fault(fleet, amphora_id) is None  # the agent restarts it within a second: look again later
    fleet.clock.now += TIMEOUT
    watch.cycle()
    assert fleet.row(amphora_id).applied_hash is None
    assert fleet.asked_to_converge(amphora_id)
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([], "not-serving")
    fleet.change(amphora_id, applied_hash="h")
    watch.cycle()
    assert (fleet.row(amphora_id).applied_hash, fault(fleet, amphora_id)) == ("h", "repairing")
    fleet.clock.now += TIMEOUT
    watch.cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([amphora_id], "still-not-serving")


def test_one_that_is_cut_off_from_its_tenant_s_network_says_so_for_as_long_as_it_is(fleet: Fleet) -> None:
    cut, peer = fleet.add(Topology.ACTIVE_STANDBY)
    fleet.answering[cut] = True
    fleet.heard(cut, no_carrier="eth1 eth2")
    watch = fleet.watch()
    watch.cycle()
    assert fault(fleet, cut) is None  # it may just have been plugged in: its next heartbeat tells
    fleet.clock.now += TIMEOUT / 4
    watch.cycle()
    its = fleet.row(cut).fault
    assert (its["code"], its["seam"]) == ("no-carrier", "agent")
    assert its["message"].endswith(": eth1 eth2")
    assert (fleet.marked(), fault(fleet, peer), fleet.journal()) == ([], None, [("amphora-alarm", "no-carrier")])
    fleet.heard(cut, no_carrier="")
    watch.cycle()
    assert fault(fleet, cut) is None


def test_what_a_silent_one_said_last_of_its_interfaces_counts_no_more(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.heard(amphora_id, ago=TIMEOUT + 1, no_carrier="eth1")
    fleet.watch().cycle()
    assert fault(fleet, amphora_id) == "silent"


def test_tls_that_fails_with_one_alone_because_of_its_certificate_is_that_ones_fault(fleet: Fleet) -> None:
    (ill,), (well,) = fleet.add(), fleet.add()
    fleet.silence(ill)
    fleet.answering[well] = True
    fleet.refusing[ill] = TlsRefused("controller", "certificate has expired")
    fleet.watch().cycle()
    assert (fleet.marked(), fault(fleet, ill)) == ([ill], "certificate-wrong")


def test_tls_that_fails_with_a_healthy_one_too_is_our_own_fault(fleet: Fleet) -> None:
    (ill,), (well,) = fleet.add(), fleet.add()
    fleet.silence(ill)
    for amphora_id in (ill, well):
        fleet.refusing[amphora_id] = TlsRefused("controller", "unknown authority")
    fleet.watch().cycle()
    assert (fleet.marked(), fault(fleet, ill)) == ([], "tls-controller")


def test_one_heard_again_while_the_witnesses_were_asked_is_spared(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    ask = fleet._ask

    def ask_slowly(amphora_id: str, address: str) -> Any:
        fleet.heard(amphora_id)
        return ask(amphora_id, address)

    monkeypatch.setattr(fleet, "_ask", ask_slowly)
    watch = fleet.watch()
    watch.cycle()
    assert fleet.marked() == []
    watch.cycle()
    assert fault(fleet, amphora_id) is None


def test_nobody_fails_over_in_the_grace_and_everybody_is_looked_at_after_it(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    grace = Grace(30.0, longest_gap=1e9, clock=fleet.clock)
    watch = fleet.watch(grace=grace)
    watch.cycle()
    fleet.clock.now += 31
    grace.disturbed()
    watch.cycle()
    assert (fleet.marked(), fleet.journal()) == ([], [])
    fleet.clock.now += 31
    watch.cycle()
    assert fleet.marked() == [amphora_id]


def test_many_silences_resume_alone_once_the_network_is_back(fleet: Fleet) -> None:
    amphorae = [fleet.add()[0] for _ in range(6)]
    fleet.silence(*amphorae)
    watch = fleet.watch()
    watch.cycle()
    assert fleet.marked() == []
    for amphora_id in amphorae[1:]:
        fleet.heard(amphora_id)
    watch.cycle()
    assert fleet.marked() == amphorae[:1]
    assert {fault(fleet, i) for i in amphorae[1:]} == {None}


def test_a_load_balancer_that_fails_over_again_and_again_is_left_alone_with_an_alarm(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    for _ in range(LOOP_LIMIT):
        fleet.silence(amphora_id)
        fleet.watch().cycle()
        assert fleet.marked() == [amphora_id]
        fleet.change(amphora_id, replace_generation=None)  # stands for the replacement that fell silent as well
    fleet.watch().cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([], "failover-loop")


def test_replacements_under_way_take_up_threads_until_they_have_taken_over(fleet: Fleet) -> None:
    amphorae = [fleet.add()[0] for _ in range(2)]
    fleet.silence(*amphorae)
    watch = fleet.watch(Limits(threads=1, share=1.0))
    watch.cycle()
    watch.cycle()
    (first,) = fleet.marked()
    fleet.change(first, status=AmphoraStatus.DELETED)
    watch.cycle()
    assert sorted(fleet.marked()) == sorted(amphorae)


def test_a_load_balancer_that_is_being_deleted_is_left_to_its_deletion(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    fleet.database.write(lambda conn: intents.begin_delete(conn, fleet.row(amphora_id).loadbalancer_id))
    fleet.watch().cycle()
    assert (fleet.marked(), fleet.journal()) == ([], [])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(healthy=st.integers(0, 12), silent=st.integers(0, 12), threads=st.integers(1, 4))
def test_however_many_fall_silent_at_once_no_more_are_replaced_than_allowed(
    tmp_path: Path, healthy: int, silent: int, threads: int
) -> None:
    fleet = Fleet.at(tmp_path)
    amphorae = [fleet.add()[0] for _ in range(healthy + silent)]
    fleet.silence(*amphorae[:silent])
    watch = fleet.watch(Limits(threads=threads, share=0.2))
    for _ in range(3):
        watch.cycle()
    storm = silent >= 3 and silent > 0.2 * (healthy + silent)
    assert len(fleet.marked()) == (0 if storm else min(silent, threads))


def test_however_many_old_troubles_there_are_a_new_death_is_judged_in_the_next_cycle(fleet: Fleet) -> None:
    old = 120
    lost = [fleet.add()[0] for _ in range(old)]
    healthy = [fleet.add()[0] for _ in range(5)]
    fleet.silence(*lost)
    fleet.answering |= dict.fromkeys(lost, True)
    watch = fleet.watch()
    for cycle in range(20):
        if cycle % 4 == 3:
            dead = healthy.pop()
            fleet.silence(dead)
            watch.cycle()
            assert dead in fleet.marked()
        else:
            watch.cycle()
        fleet.clock.now += 3
    assert {fault(fleet, i) for i in lost} == {"heartbeats-lost"}
    assert len(fleet.journal()) == old + 5  # each of the old ones said it once


def test_those_that_wait_for_their_turn_count_as_silent_all_the_same(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "MOST_ASKED", 2)
    amphorae = [fleet.add()[0] for _ in range(20)]
    fleet.silence(*amphorae[:8])
    watch = fleet.watch()
    for _ in range(6):
        watch.cycle()
        assert fleet.marked() == []
    assert {fault(fleet, i) for i in amphorae[:8]} == {"many-silent"}
    for amphora_id in amphorae[1:8]:
        fleet.heard(amphora_id)
    watch.cycle()
    assert fleet.marked() == amphorae[:1]


def pushes_in(fleet: Fleet, amphora_id: str, watch: Any, seconds: int) -> list[int]:
    """The seconds after which its bundle and configuration were to be pushed again, each push being done at once."""
    found = []
    for second in range(0, seconds, 10):
        watch.cycle()
        if fleet.row(amphora_id).applied_hash is None:
            found.append(second)
            fleet.change(amphora_id, applied_hash="h")
        fleet.clock.now += 10
    return found


def test_addresses_and_key_are_pushed_for_as_long_as_heartbeats_are_lost_ever_more_rarely(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    fleet.answering[amphora_id] = True
    pushes = pushes_in(fleet, amphora_id, fleet.watch(), 6000)
    assert pushes == [0, 60, 180, 420, 900, 1500, 2100, 2700, 3300, 3900, 4500, 5100, 5700]
    assert fleet.journal() == [("amphora-alarm", "heartbeats-lost")]


def test_while_its_replacement_is_held_what_does_not_serve_is_pushed_again_and_what_is_off_is_started(
    fleet: Fleet,
) -> None:
    (ill,), (off,) = fleet.add(), fleet.add()
    fleet.answering[ill] = False
    fleet.heard(ill, haproxy_up=False)
    fleet.silence(off)
    server_id = fleet.row(off).compute_id
    fleet.cloud.power_off(server_id)
    watch = fleet.watch(Limits(threads=10, share=0.2, threshold=0))
    starts: list[int] = []
    pushes: list[int] = []
    watch._histories[off] = _History(0.0, started=0.0)
    watch._histories[ill] = _History(0.0, repaired=0.0)
    for second in range(0, 1000, 10):
        watch.cycle()
        if fleet.row(ill).applied_hash is None:
            pushes.append(second)
            fleet.change(ill, applied_hash="h")
        server = fleet.cloud.server(server_id)
        if server and server.status is ServerStatus.ACTIVE:
            starts.append(second)
            fleet.cloud.power_off(server_id)
        fleet.clock.now += 10
    assert pushes == starts == [0, 60, 180, 420, 900]
    assert fleet.marked() == []


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal.START, "start-unconfirmed"),
        (Refusal.REPLAYED, "heartbeats-replayed"),
        (Refusal.MALFORMED, "heartbeats-unreadable"),
        (Refusal.UNRECORDABLE, "heartbeats-unreadable"),
        (None, "heartbeats-lost"),
    ],
)
def test_the_fault_of_one_whose_heartbeats_arrive_and_are_not_taken_says_so(
    fleet: Fleet, refusal: Refusal | None, code: str
) -> None:
    (amphora_id,), _ = fleet.add(), fleet.add()
    fleet.silence(amphora_id)
    fleet.answering[amphora_id] = True
    watch = fleet.watch()
    watch._refusal = {amphora_id: refusal}.get
    watch.cycle()
    assert (fleet.marked(), fault(fleet, amphora_id)) == ([], code)
    fleet.heard(amphora_id)
    watch.cycle()
    assert fault(fleet, amphora_id) is None


def test_one_whose_fault_cannot_be_written_keeps_no_other_from_being_replaced(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    amphorae = [fleet.add()[0] for _ in range(6)]
    bad, good, lost = amphorae[:3]
    fleet.silence(bad, good, lost)
    fleet.answering |= {bad: True, lost: True}
    set_fault = liveness.set_fault

    def refuse(conn: Any, amphora_id: str, what: Any) -> None:
        if amphora_id == bad:
            raise ValueError("nobody foresaw it")
        set_fault(conn, amphora_id, what)

    monkeypatch.setattr(liveness, "set_fault", refuse)
    fleet.watch().cycle()
    assert fleet.marked() == [good]
    assert fault(fleet, lost) == "heartbeats-lost"


def test_the_guard_is_told_in_which_zone_and_on_which_host_an_amphora_is(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (silent,) = fleet.add(cached_zone="az-1")
    fleet.add()
    fleet.silence(silent)
    server = fleet.cloud.server
    monkeypatch.setattr(fleet.cloud, "server", lambda i: (found := server(i)) and replace(found, host="compute-7"))
    told: list[Candidate] = []

    def noted(candidates: Sequence[Candidate], **more: Any) -> Mapping[str, Verdict]:
        told.extend(candidates)
        return guard(candidates, **more)

    monkeypatch.setattr(watching, "guard", noted)
    fleet.watch().cycle()
    assert [(c.amphora_id, c.zone, c.host) for c in told] == [(silent, "az-1", "compute-7")]
