"""What an amphora says of itself, as the health manager hears it."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from agent_lab import CONTROLLER, AgentHost, Lab, bundle, inside, until
from trees import listener, member, monitor, pool

from tavia.amphora.agent_config import parse_agent_config
from tavia.amphora.client import AgentFailed, BundleRefused
from tavia.amphora.heartbeat import decode, derive_key

WEB = (listener(), pool(), member())


def test_an_amphora_without_a_bundle_is_alive(lab: Lab, host: AgentHost) -> None:
    beat = lab.heartbeat()
    assert (beat.amphora_id, beat.generation, beat.bundle_hash, beat.haproxy_up) == (host.id, 0, None, True)
    assert lab.heartbeat().order > beat.order


def test_a_heartbeat_tells_what_is_applied_and_how_listeners_pools_and_members_are(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    rows = (listener(), pool(), monitor(type="TCP", delay=1, max_retries_down=1), member())
    more = (member("m2", address="10.20.0.102"), member("m3", admin_state_up=False), member("m4", weight=0))
    wanted = bundle(host, *rows, *more, listener("two", protocol_port=81))
    host.put(wanted)
    words = {"m1": "UP", "m2": "DOWN", "m3": "MAINT", "m4": "DRAIN"}
    beat = lab.heartbeat(lambda beat: beat.pools and dict(beat.pools["app"].members) == words)
    assert (beat.generation, beat.bundle_hash) == (7, wanted.hash)
    assert beat.pools["app"].status == "UP"
    assert {name: report.status for name, report in beat.listeners.items()} == {"web": "OPEN", "two": "OPEN"}


def test_an_interface_whose_other_end_goes_down_is_told_until_it_is_up_again(lab: Lab, host: AgentHost) -> None:
    host.put(bundle(host, *WEB))
    lab.heartbeat(lambda beat: beat.generation == 7 and beat.no_carrier == ())
    lab.ip(lab.hub, f"link set {host.port} down")
    lab.heartbeat(lambda beat: beat.no_carrier == ("eth1",))
    lab.ip(lab.hub, f"link set {host.port} up")
    lab.heartbeat(lambda beat: beat.no_carrier == ())


def test_an_interface_that_is_gone_is_told(lab: Lab, host: AgentHost) -> None:
    host.put(bundle(host, *WEB))
    lab.ip(lab.hub, f"link del {host.port}")
    lab.heartbeat(lambda beat: beat.no_carrier == ("eth1",))


def test_a_pool_without_checks_and_one_without_members(lab: Lab, host: AgentHost) -> None:
    host.put(bundle(host, *WEB))
    beat = lab.heartbeat(lambda beat: beat.pools)
    assert (beat.pools["app"].status, beat.pools["app"].members) == ("UP", {"m1": "no check"})
    host.put(bundle(host, listener(), pool()))
    beat = lab.heartbeat(lambda beat: beat.pools and not beat.pools["app"].members)
    assert beat.pools["app"].status == "UP"


def test_a_listener_at_its_limit_is_full(lab: Lab, host: AgentHost) -> None:
    slow = lab.member(1)
    host.put(bundle(host, listener(connection_limit=1), pool(), member()))
    with lab.request("/slow") as answer:
        slow.busy.wait(5)
        beat = lab.heartbeat(lambda beat: "web" in beat.listeners and beat.listeners["web"].status == "FULL")
        assert beat.listeners["web"].stats.conns == 1
        slow.release.set()
        answer()
    lab.heartbeat(lambda beat: beat.listeners["web"].status == "OPEN")


def test_counters_go_on_over_reloads_deaths_of_haproxy_and_of_the_agent(lab: Lab, host: AgentHost) -> None:
    def total() -> int:
        return lab.heartbeat(lambda beat: "web" in beat.listeners).listeners["web"].stats.totconns

    def goes_on_from(counted: int) -> int:
        """A request that an outgoing worker answers last is not counted, so it takes one or two."""
        asked = 0
        while (now := total()) <= counted:
            asked += 1
            assert asked < counted, "it begins anew"
            lab.get()
        return now

    lab.member(1)
    host.put(bundle(host, *WEB))
    assert all(lab.get() for _ in range(20)) and until(lambda: total() == 20)
    host.put(bundle(host, *WEB, listener("two", protocol_port=81)))
    counted = goes_on_from(20)
    os.kill(host.pids("haproxy")[0], signal.SIGKILL)
    assert until(lab.get)
    counted = goes_on_from(counted)
    host.kill_agent()
    host.ready()
    goes_on_from(counted)


def test_a_change_is_told_before_the_interval_is_over(lab: Lab) -> None:
    host = lab.host()
    host.configure(interval=3600)
    host.ready()
    lab.heartbeat(lambda beat: beat.generation == 0)
    host.put(bundle(host, *WEB))
    lab.heartbeat(lambda beat: beat.generation == 7)


def test_new_controllers_and_a_new_key_take_effect_at_once_and_are_kept(lab: Lab, host: AgentHost) -> None:
    with inside(lab.world), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.settimeout(10)
        other.bind((CONTROLLER, 5556))
        key = derive_key("another secret", host.id)
        text = (
            host.configure()
            .replace(":5555", ":5556")
            .replace(derive_key("secret of the controllers", host.id).hex(), key.hex())
        )
        with host.client() as client:
            client.put_config(text)
        assert decode(other.recv(65536), lambda _: key).amphora_id == host.id
        host.kill_agent()
        host.ready()
        until(lambda: decode(other.recv(65536), lambda _: key).boot_count == 2)
    assert parse_agent_config(host.config.read_text()).heartbeat_key == key


def test_a_configuration_that_cannot_be_read_or_is_another_amphora_s_changes_nothing(host: AgentHost) -> None:
    text = host.configure()
    with host.client() as client:
        with pytest.raises(BundleRefused, match="heartbeat_key"):
            client.put_config("[amphora_agent]\namphora_id = x\n")
        with pytest.raises(AgentFailed, match="this is amphora"):
            client.put_config(text.replace(host.id, "00000000-0000-4000-8000-000000000099"))
    assert host.config.read_text() == text
