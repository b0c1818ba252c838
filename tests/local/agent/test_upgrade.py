"""An agent takes over what one of before left running, when programs had no users of their own, in one directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from agent_lab import VIP, AgentHost, Lab, pair_bundles, until
from trees import listener, member, pool

FROZEN = Path(__file__).with_name("frozen_agent.zip")
WEB = (listener(), pool(), member())


@pytest.fixture
def upgraded(lab: Lab) -> AgentHost:
    """Half of a pair, MASTER, that a frozen agent started."""
    lab.member(1)
    host = lab.host(source=FROZEN).ready()
    host.put(pair_bundles((host, host), *WEB)[0])
    until(lambda: f"{VIP}/32" in host.addresses())
    before = host.pids("haproxy"), host.pids("keepalived")
    host.kill_agent()
    host.source = None
    host.ready()
    assert (host.pids("haproxy"), host.pids("keepalived")) == before
    return host


def test_traffic_goes_on_and_changes_are_taken(lab: Lab, upgraded: AgentHost) -> None:
    assert lab.get() == b"10.20.0.101"
    assert upgraded.state() == "MASTER"
    lab.heartbeat(lambda said: said.boot_count == 2 and "web" in said.listeners)
    assert upgraded.put(pair_bundles((upgraded, upgraded), *WEB, listener("more", protocol_port=8000))[0]) == "reload"
    assert lab.get(port=8000) == b"10.20.0.101"


@pytest.mark.parametrize("name", ["haproxy", "keepalived"])
def test_what_dies_comes_back_as_its_own_user(lab: Lab, upgraded: AgentHost, name: str) -> None:
    os.kill(upgraded.pids(name)[0], signal.SIGKILL)

    def users() -> set[int]:
        return {Path(f"/proc/{pid}").stat().st_uid for pid in upgraded.pids(name)}

    until(lambda: users() and 0 not in users())
    until(lambda: lab.get() == b"10.20.0.101" and upgraded.state() == "MASTER")
    lab.heartbeat(lambda said: said.boot_count == 2 and said.haproxy_up and said.vrrp_state == "MASTER")
