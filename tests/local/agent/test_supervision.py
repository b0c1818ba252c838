"""What dies is started again; what outlives the agent is taken over; a reboot needs no controller."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from agent_lab import VIP, AgentHost, Lab, bundle, pair_bundles, until
from trees import listener, member, monitor, pool

WEB = (listener(), pool(), member())


@pytest.fixture
def serving(lab: Lab, host: AgentHost) -> AgentHost:
    lab.member(1)
    host.put(bundle(host, *WEB))
    return host


@pytest.fixture
def hosts(lab: Lab) -> tuple[AgentHost, AgentHost]:
    """A pair that serves; the first is MASTER."""
    lab.member(1)
    hosts = (lab.host(0).ready(), lab.host(1).ready())
    bundles = pair_bundles(hosts, *WEB)
    hosts[0].put(bundles[0])
    until(lambda: f"{VIP}/32" in hosts[0].addresses())
    hosts[1].put(bundles[1])
    until(lambda: hosts[1].state() == "BACKUP")
    return hosts


def stop(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGSTOP)


@contextmanager
def starved(process: int) -> Iterator[list[int]]:
    """It runs for a tenth of the time only; yields in how many pieces it did."""
    pieces, ending = [0], threading.Event()

    def starve() -> None:
        while not ending.is_set():
            os.kill(process, signal.SIGSTOP)
            ending.wait(0.9)
            os.kill(process, signal.SIGCONT)
            ending.wait(0.1)
            pieces[0] += 1

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield pieces
    finally:
        ending.set()
        thread.join()


def test_a_killed_haproxy_is_started_again_and_counted(lab: Lab, serving: AgentHost) -> None:
    os.kill(serving.pids("haproxy")[0], signal.SIGKILL)
    lab.heartbeat(lambda heartbeat: heartbeat.haproxy_restarts == 1 and heartbeat.haproxy_up)
    assert lab.get() == b"10.20.0.101"
    with serving.client() as client:
        assert client.put_bundle(bundle(serving, *WEB)).action == "none"


def test_a_killed_worker_takes_its_master_along_and_both_come_back(lab: Lab, serving: AgentHost) -> None:
    os.kill(serving.pids("haproxy")[-1], signal.SIGKILL)
    lab.heartbeat(lambda heartbeat: heartbeat.haproxy_restarts == 1 and heartbeat.haproxy_up)
    assert lab.get() == b"10.20.0.101"


def test_haproxy_that_keeps_dying_is_reported_and_cured_by_the_next_bundle(lab: Lab, serving: AgentHost) -> None:
    (serving.base / "haproxy.cfg").write_text("nonsense\n")
    os.kill(serving.pids("haproxy")[0], signal.SIGKILL)
    assert not lab.heartbeat(lambda heartbeat: heartbeat.haproxy_restarts > 1).haproxy_up
    # "reload" where it was just trying again, and read the new file.
    assert serving.put(bundle(serving, *WEB, listener("more", protocol_port=8000))) in ("start", "reload")
    assert lab.get() == b"10.20.0.101"


def test_haproxy_that_dies_while_it_starts_is_cured_by_a_bundle_that_came_meanwhile(
    lab: Lab, serving: AgentHost
) -> None:
    """The shell that becomes HAProxy first writes the pid file: a pipe that nobody reads holds it up there."""
    pid_file = serving.run_file("agent/haproxy.pid")
    pid_file.unlink()
    os.mkfifo(pid_file)
    os.kill(serving.pids("haproxy")[0], signal.SIGKILL)
    starting = until(lambda: serving.pids("sh"))
    with ThreadPoolExecutor(1) as thread:
        put = thread.submit(serving.put, bundle(serving, *WEB, listener("more", protocol_port=8000)))
        until(lambda: ":8000" in (serving.base / "haproxy.cfg").read_text())
        pid_file.unlink()
        os.kill(starting[0], signal.SIGKILL)
        assert put.result() == "start"
    assert lab.get(port=8000) == b"10.20.0.101"


def test_vrrp_learns_of_haproxy_s_death_at_once_and_the_vip_moves(lab: Lab, hosts: tuple[AgentHost, AgentHost]) -> None:
    master, backup = hosts
    assert lab.get() == b"10.20.0.101"
    os.kill(master.pids("haproxy")[0], signal.SIGKILL)
    until(lambda: f"{VIP}/32" in backup.addresses() and VIP not in master.addresses())
    until(lambda: lab.get() == b"10.20.0.101")
    until(lambda: master.run_file("haproxy.track").read_text() == "0\n" and master.state() == "BACKUP")


@pytest.mark.parametrize("hanging", ["worker", "master and worker"])
def test_a_haproxy_that_hangs_is_killed_and_started_again_whatever_bundle_comes(
    hanging: str, lab: Lab, serving: AgentHost
) -> None:
    processes = serving.pids("haproxy")
    stop(*(processes if hanging == "master and worker" else processes[-1:]))
    assert serving.put(bundle(serving, *WEB)) == "none"
    lab.heartbeat(lambda heartbeat: heartbeat.haproxy_restarts == 1 and heartbeat.haproxy_up)
    assert lab.get() == b"10.20.0.101"
    assert not set(processes) & set(serving.pids("haproxy"))


def test_a_worker_that_hangs_does_not_outlive_its_master(lab: Lab, serving: AgentHost) -> None:
    """It would still be given every other connection, and answer none."""
    master, worker = serving.pids("haproxy")
    stop(worker)
    os.kill(master, signal.SIGKILL)
    lab.heartbeat(lambda heartbeat: heartbeat.haproxy_restarts == 1 and heartbeat.haproxy_up)
    assert worker not in serving.pids("haproxy")


def test_a_haproxy_that_hangs_ends_when_it_is_asked_to(serving: AgentHost) -> None:
    stop(serving.pids("haproxy")[-1])
    assert serving.put(replace(bundle(serving), files={}, hash="")) == "stop"
    assert serving.pids("haproxy") == []


def test_a_haproxy_that_is_slow_but_well_is_left_alone(lab: Lab, serving: AgentHost) -> None:
    processes = serving.pids("haproxy")
    with starved(processes[-1]) as pieces:
        until(lambda: pieces[0] > 10, 30)
    assert serving.pids("haproxy") == processes
    assert lab.get() == b"10.20.0.101"


def test_the_vip_moves_from_a_haproxy_that_hangs(lab: Lab, hosts: tuple[AgentHost, AgentHost]) -> None:
    master, backup = hosts
    stop(master.pids("haproxy")[-1])
    until(lambda: f"{VIP}/32" in backup.addresses() and VIP not in master.addresses())
    until(lambda: lab.get() == b"10.20.0.101")
    until(lambda: master.run_file("haproxy.track").read_text() == "0\n" and master.state() == "BACKUP")


def test_a_keepalived_that_hangs_is_started_again_and_keeps_no_vip(
    lab: Lab, hosts: tuple[AgentHost, AgentHost]
) -> None:
    master, backup = hosts
    processes = master.pids("keepalived")
    stop(*processes)
    until(lambda: f"{VIP}/32" in backup.addresses())
    assert VIP in master.addresses()
    until(lambda: VIP not in master.addresses() and master.state() == "BACKUP")
    assert not set(processes) & set(master.pids("keepalived"))
    assert lab.get() == b"10.20.0.101"


@pytest.mark.parametrize("which", ["the parent, which takes new configurations", "the child, which speaks VRRP"])
def test_each_process_of_keepalived_must_answer(which: str, hosts: tuple[AgentHost, AgentHost]) -> None:
    _, backup = hosts
    before = backup.pids("keepalived")
    stop(before[0 if "parent" in which else -1])
    until(lambda: backup.pids("keepalived") and not set(before) & set(backup.pids("keepalived")))
    until(lambda: backup.state() == "BACKUP")


def test_a_keepalived_that_is_slow_but_well_is_left_alone(hosts: tuple[AgentHost, AgentHost]) -> None:
    _, backup = hosts
    before = backup.pids("keepalived")
    with starved(before[-1]) as pieces:
        until(lambda: pieces[0] > 10, 30)
    assert backup.pids("keepalived") == before


def test_a_killed_keepalived_is_started_again(hosts: tuple[AgentHost, AgentHost]) -> None:
    _, backup = hosts
    before = backup.pids("keepalived")
    os.kill(before[0], signal.SIGKILL)
    until(lambda: backup.pids("keepalived") and not set(before) & set(backup.pids("keepalived")))
    until(lambda: backup.state() == "BACKUP")


def test_a_dead_master_is_followed_by_the_backup_without_any_controller(
    lab: Lab, hosts: tuple[AgentHost, AgentHost]
) -> None:
    master, backup = hosts
    assert lab.heartbeat(lambda beat: beat.amphora_id == backup.id and beat.vrrp_state == "BACKUP").peer_seen is True
    assert lab.heartbeat(lambda beat: beat.amphora_id == master.id and beat.peer_seen).vrrp_state == "MASTER"
    master.power_off()
    until(lambda: lab.get() == b"10.20.0.101")
    beat = lab.heartbeat(
        lambda beat: beat.amphora_id == backup.id and beat.vrrp_state == "MASTER" and beat.peer_seen is False
    )
    assert beat.haproxy_up


def test_a_killed_agent_s_successor_takes_over_and_traffic_goes_on(lab: Lab, serving: AgentHost) -> None:
    processes = serving.pids("haproxy")
    with lab.load(clients=2) as load:
        until(lambda: load.served > 20)
        serving.kill_agent()
        served = load.served
        until(lambda: load.served > served + 20)
        serving.ready()
        lab.heartbeat(lambda heartbeat: heartbeat.boot_count == 2 and heartbeat.listeners)
        served = load.served
        until(lambda: load.served > served + 20)
    assert load.failed == []
    assert serving.pids("haproxy") == processes
    assert serving.put(bundle(serving, *WEB, listener("more", protocol_port=8000))) == "reload"
    os.kill(serving.pids("haproxy")[0], signal.SIGKILL)
    until(lambda: lab.get(port=8000) == b"10.20.0.101")


def test_a_successor_knows_vrrp_s_state(hosts: tuple[AgentHost, AgentHost]) -> None:
    for host, state in zip(hosts, ("MASTER", "BACKUP"), strict=True):
        keepalived = host.pids("keepalived")
        host.kill_agent()
        host.ready()
        assert until(host.state) == state
        assert host.pids("keepalived") == keepalived


def test_what_died_while_no_agent_was_there_is_started(lab: Lab, serving: AgentHost) -> None:
    serving.kill_agent()
    os.kill(serving.pids("haproxy")[0], signal.SIGKILL)
    serving.ready()
    until(lambda: lab.get() == b"10.20.0.101")


def test_an_agent_asked_to_stop_leaves_traffic_alone(lab: Lab, serving: AgentHost) -> None:
    serving.kill_agent(signal.SIGTERM)
    assert lab.get() == b"10.20.0.101"


def test_a_rebooted_amphora_serves_again_without_any_controller(lab: Lab, serving: AgentHost) -> None:
    serving.power_off()
    assert lab.get() == b""
    serving.power_on()
    serving.start_agent()
    until(lambda: lab.get() == b"10.20.0.101")
    assert f"{VIP}/32" in serving.addresses()
    assert lab.heartbeat(lambda heartbeat: heartbeat.boot_count == 2).generation == 7


def test_a_rebooted_amphora_waits_for_an_interface_that_is_plugged_in_late(lab: Lab, serving: AgentHost) -> None:
    serving.power_off()
    serving.power_on(plugged=False)
    serving.ready()
    with serving.client() as client:
        until(lambda: "interface-missing" in (client.status().fault or ""))
        serving.plug()
        until(lambda: client.status().fault is None)
    assert lab.get() == b"10.20.0.101"


def test_a_bundle_cut_off_by_the_agent_s_death_is_completed_by_its_successor(lab: Lab, serving: AgentHost) -> None:
    serving.kill_agent()
    newer = bundle(serving, *WEB, listener("more", protocol_port=8000))
    (serving.base / "bundle.json").write_bytes(newer.to_json())
    serving.ready()
    until(lambda: lab.get(port=8000) == b"10.20.0.101")


def test_a_checked_member_that_is_down_is_not_believed_after_haproxy_s_death(lab: Lab, host: AgentHost) -> None:
    rows = (listener(), pool(), monitor(type="TCP", delay=60, max_retries_down=1), member())
    host.put(bundle(host, *rows))
    until(lambda: host.stat("m1")["status"] == "DOWN")
    host.put(bundle(host, *rows, listener("more", protocol_port=8000)))
    lab.member(1)
    os.kill(host.pids("haproxy")[0], signal.SIGKILL)
    until(lambda: lab.get() == b"10.20.0.101")
