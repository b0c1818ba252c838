"""A bundle is applied the cheapest way that drops nobody, wholly or not at all."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from agent_lab import VIP, AgentHost, Lab, bundle, until
from trees import listener, member, monitor, pool

from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import AgentFailed, BundleRefused, FenceRefused
from tavia.model.resources import Member

WEB = (listener(), pool(), member())


def second_member(host: AgentHost) -> Bundle:
    return bundle(host, *WEB, member("m2", address="10.20.0.102"))


def worker(host: AgentHost) -> str:
    return next(line for line in host.ask("show info").splitlines() if line.startswith("Pid"))


def test_the_first_bundle_names_the_interface_brings_the_vip_and_serves(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    first = bundle(host, *WEB)
    with host.client() as client:
        applied = client.put_bundle(first)
        status = client.status()
    assert (applied.action, applied.hash) == ("start", first.hash)
    assert lab.get() == b"10.20.0.101"
    assert f"{VIP}/32" in host.addresses() and "10.20.0.5/24" in host.addresses()
    held = (status.fence, status.generation, status.hash, status.haproxy_up, status.fault)
    assert held == (Fence(1, 1, "worker"), 7, first.hash, True, None)
    assert status.haproxy_version.startswith("2.") and status.keepalived_version.startswith("2.")


def test_the_same_bundle_again_changes_nothing(host: AgentHost) -> None:
    assert host.put(bundle(host, *WEB)) == "start"
    before = worker(host)
    assert host.put(bundle(host, *WEB, fence=Fence(2, 1, "worker"), generation=9)) == "none"
    with host.client() as client:
        assert client.status().generation == 9
    assert worker(host) == before


def test_members_come_and_go_without_a_reload(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    lab.member(2)
    host.put(bundle(host, *WEB))
    before = worker(host)
    assert host.put(second_member(host)) == "runtime"
    assert {lab.get() for _ in range(4)} == {b"10.20.0.101", b"10.20.0.102"}
    assert host.put(bundle(host, listener(), pool(), member("m2", address="10.20.0.102"))) == "runtime"
    assert {lab.get() for _ in range(4)} == {b"10.20.0.102"}
    assert worker(host) == before
    until(lambda: "m1" not in host.ask("show servers state"))


def test_neighbours_hear_of_an_amphora_s_own_address_without_asking(lab: Lab, host: AgentHost) -> None:
    address = f"10.20.0.{host.number}"
    lab.ip(lab.world, f"neigh add {address} lladdr 52:54:00:00:00:99 dev eth0 nud stale")
    host.put(bundle(host, *WEB))
    until(lambda: host.mac in lab.show(lab.world, "neigh", "show", address))


def test_connections_to_a_member_added_at_run_time_are_used_again(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    lab.member(2)
    host.put(bundle(host, *WEB))
    assert host.put(second_member(host)) == "runtime"
    with lab.load(1):
        until(lambda: int(host.stat("m2")["reuse"]) > 10)


@pytest.mark.parametrize(
    ("before", "after", "weight", "word"),
    [
        (member(weight=3), member(weight=7), "7", "no check"),
        (member(), member(admin_state_up=False), "1", "MAINT"),
        (member(admin_state_up=False), member(), "1", "no check"),
    ],
    ids=["weight", "down", "up"],
)
def test_a_member_is_changed_without_a_reload(
    host: AgentHost, before: Member, after: Member, weight: str, word: str
) -> None:
    host.put(bundle(host, listener(), pool(), before))
    process = worker(host)
    assert host.put(bundle(host, listener(), pool(), after)) == "runtime"
    assert (host.stat("m1")["weight"], host.stat("m1")["status"]) == (weight, word)
    assert worker(host) == process


def test_a_checked_member_added_at_run_time_is_checked(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    checked = (listener(), pool(), monitor(type="TCP", delay=1, max_retries_down=1), member())
    host.put(bundle(host, *checked))
    assert host.put(bundle(host, *checked, member("m2", address="10.20.0.102"))) == "runtime"
    until(lambda: host.stat("m2")["status"] == "DOWN")


def test_a_checked_member_s_monitor_address_is_changed_without_a_reload(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    checked = (listener(), pool(), monitor(type="TCP", delay=1, max_retries_down=1))
    host.put(bundle(host, *checked, member(monitor_address="10.20.0.102", monitor_port=8080)))
    until(lambda: host.stat("m1")["status"] == "DOWN")
    assert host.put(bundle(host, *checked, member(monitor_address="10.20.0.101", monitor_port=8080))) == "runtime"
    until(lambda: host.stat("m1")["status"] == "UP")


def test_a_member_of_a_pool_with_cookies_gets_its_cookie_at_run_time(host: AgentHost) -> None:
    sticky = pool(session_persistence={"type": "HTTP_COOKIE"})
    both = (sticky, member(), member("m2", address="10.20.0.102"))
    host.put(bundle(host, listener(), sticky, member()))
    assert host.put(bundle(host, listener(), *both)) == "runtime"
    cookie = host.stat("m2")["cookie"]
    assert host.put(bundle(host, listener(), *both, listener("more", protocol_port=81))) == "reload"
    assert cookie and host.stat("m2")["cookie"] == cookie


def test_a_listener_s_limit_is_changed_without_a_reload(host: AgentHost) -> None:
    host.put(bundle(host, *WEB))
    assert host.put(bundle(host, listener(connection_limit=3), pool(), member())) == "runtime"
    assert host.stat("web")["slim"] == "3"


def test_a_new_listener_is_a_reload_of_the_same_master(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    host.put(bundle(host, *WEB))
    master = host.pids("haproxy")[0]
    assert host.put(bundle(host, *WEB, listener("more", protocol_port=8000))) == "reload"
    assert host.pids("haproxy")[0] == master
    assert lab.get(port=8000) == b"10.20.0.101"


def test_a_member_that_is_down_stays_down_over_a_reload(host: AgentHost) -> None:
    checked = (listener(), pool(), monitor(type="TCP", delay=60, max_retries_down=1), member())
    host.put(bundle(host, *checked))
    until(lambda: host.stat("m1")["status"] == "DOWN")
    assert host.put(bundle(host, *checked, listener("more", protocol_port=8000))) == "reload"
    assert host.stat("m1")["status"] == "DOWN"


def test_a_member_that_was_down_is_up_once_nothing_checks_it(host: AgentHost) -> None:
    host.put(bundle(host, listener(), pool(), monitor(type="TCP", delay=60, max_retries_down=1), member()))
    until(lambda: host.stat("m1")["status"] == "DOWN")
    assert host.put(bundle(host, *WEB)) == "reload"
    assert host.stat("m1")["status"] == "no check"


def test_a_removed_member_finishes_its_response(lab: Lab, host: AgentHost) -> None:
    slow = lab.member(1)
    lab.member(2)
    host.put(bundle(host, *WEB))
    with lab.request("/slow") as answer:
        slow.busy.wait(5)
        assert host.put(bundle(host, listener(), pool(), member("m2", address="10.20.0.102"))) == "runtime"
        assert {lab.get() for _ in range(4)} == {b"10.20.0.102"}
        assert "m1" in host.ask("show servers state")
        slow.release.set()
        assert answer() == b"10.20.0.101"
    until(lambda: "m1" not in host.ask("show servers state"))


def test_a_member_that_comes_back_while_it_drains_serves(lab: Lab, host: AgentHost) -> None:
    slow = lab.member(1)
    host.put(bundle(host, *WEB))
    with lab.request("/slow") as answer:
        slow.busy.wait(5)
        host.put(bundle(host, listener(), pool()))
        assert lab.get() == b""
        assert host.put(bundle(host, *WEB)) == "reload"
        assert lab.get() == b"10.20.0.101"
        slow.release.set()
        assert answer() == b"10.20.0.101"


def test_fifty_reloads_under_keep_alive_load_fail_no_request(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    lab.member(2)
    both = (*WEB, member("m2", address="10.20.0.102"))
    host.put(bundle(host, *both))
    with lab.load(clients=4) as load:
        until(lambda: load.served > 50)
        for number in range(50):
            action = host.put(bundle(host, *both, listener("more", protocol_port=8000 + number)))
            assert action == "reload"
        served = load.served
        until(lambda: load.served > served + 50)
    assert load.failed == []


def test_a_runtime_change_loses_no_request_under_load(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    lab.member(2)
    host.put(bundle(host, *WEB))
    with lab.load(clients=4) as load:
        until(lambda: load.served > 50)
        for number in range(50):
            rows = (member("m2", address="10.20.0.102", weight=1 + number),) if number % 3 else ()
            assert host.put(bundle(host, *WEB, *rows)) in ("runtime", "none", "reload")
        served = load.served
        until(lambda: load.served > served + 50)
    assert load.failed == []


def test_what_haproxy_refuses_changes_nothing_and_the_refusal_names_the_line(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    good = bundle(host, *WEB)
    host.put(good)
    process = worker(host)
    text = good.files["haproxy.cfg"].replace("    mode http\n", "    mode http\n    no such word\n", 1)
    bad = dataclasses.replace(good, files={"haproxy.cfg": text}, fence=Fence(1, 2, "worker"))
    with host.client() as client, pytest.raises(BundleRefused, match="such") as refused:
        client.put_bundle(bad)
    assert (refused.value.file, refused.value.code) == ("haproxy.cfg", "haproxy-refused")
    assert text.splitlines()[(refused.value.line or 0) - 1] == "    no such word"
    with host.client() as client:
        status = client.status()
    assert (status.hash, status.fence) == (good.hash, good.fence)
    assert worker(host) == process and lab.get() == b"10.20.0.101"


def test_a_port_that_is_taken_changes_nothing(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    good = bundle(host, *WEB)
    host.put(good)
    wanted = bundle(host, *WEB, listener("more", protocol_port=8000))
    with host.taken(VIP, 8000):
        with host.client() as client, pytest.raises(BundleRefused, match=r"10\.20\.0\.9:8000") as refused:
            client.put_bundle(wanted)
        line = wanted.files["haproxy.cfg"].splitlines()[(refused.value.line or 0) - 1]
        assert (refused.value.file, line) == ("haproxy.cfg", "    bind 10.20.0.9:8000")
        until(lambda: lab.get() == b"10.20.0.101")
        with host.client() as client:
            assert client.status().hash == good.hash
    assert host.put(wanted) == "reload"
    assert lab.get(port=8000) == b"10.20.0.101"


def test_a_first_bundle_that_cannot_start_leaves_nothing_behind(host: AgentHost) -> None:
    good = bundle(host, *WEB)
    with host.taken(VIP, 80), host.client() as client, pytest.raises(BundleRefused):
        client.put_bundle(good)
    assert host.pids("haproxy") == [] and VIP not in host.addresses()
    with host.client() as client:
        assert client.status().fence is None
    assert host.put(good) == "start"


def test_what_keepalived_refuses_changes_nothing(host: AgentHost) -> None:
    good = bundle(host, *WEB)
    host.put(good)
    files = {**good.files, "keepalived.conf": "vrrp_instance lb {\n    interface eth1\n    nonsense\n}\n"}
    (interface,) = good.interfaces
    plugged = dataclasses.replace(interface, addresses=(*interface.addresses, "10.20.0.77/24"))
    with host.client() as client, pytest.raises(BundleRefused) as refused:
        client.put_bundle(dataclasses.replace(good, files=files, interfaces=(plugged,)))
    assert (refused.value.file, refused.value.line) == ("keepalived.conf", 3)
    assert host.pids("keepalived") == [] and "10.20.0.77" not in host.addresses()


def test_an_earlier_bundle_or_another_owner_is_told_what_is_held(host: AgentHost) -> None:
    held = Fence(5, 3, "worker")
    host.put(bundle(host, *WEB, fence=held))
    for refused_fence in (Fence(4, 9, "worker"), Fence(5, 2, "worker"), Fence(5, 4, "another")):
        with host.client() as client, pytest.raises(FenceRefused) as refused:
            client.put_bundle(bundle(host, *WEB, fence=refused_fence))
        assert refused.value.held == held
    assert host.put(bundle(host, *WEB, fence=Fence(6, 1, "another"))) == "none"


def test_another_amphora_s_bundle_and_a_missing_interface_are_refused(host: AgentHost) -> None:
    good = bundle(host, *WEB)
    (interface,) = good.interfaces
    elsewhere = dataclasses.replace(interface, mac="fa:16:3e:99:99:99")
    for bad, code in (
        (dataclasses.replace(good, amphora_id="another"), "wrong-amphora"),
        (dataclasses.replace(good, interfaces=(elsewhere,)), "interface-missing"),
    ):
        with host.client() as client, pytest.raises(AgentFailed) as refused:
            client.put_bundle(bad)
        assert refused.value.code == code
    assert host.pids("haproxy") == []


def test_a_load_balancer_without_listeners_runs(host: AgentHost) -> None:
    assert host.put(bundle(host)) == "start"
    assert host.put(bundle(host, *WEB)) == "reload"
    assert host.put(bundle(host)) == "reload"


def test_an_interface_that_shows_a_moment_after_its_bundle_is_waited_for(lab: Lab) -> None:
    host = lab.host()
    host.power_off()
    host.power_on(plugged=False)
    host.ready()
    plugging = threading.Timer(1.0, host.plug)
    plugging.start()
    try:
        assert host.put(bundle(host, *WEB)) == "start"
    finally:
        plugging.join()
    assert f"{VIP}/32" in host.addresses()


def test_interfaces_follow_the_bundle(host: AgentHost) -> None:
    good = bundle(host, *WEB)
    host.put(good)
    (interface,) = good.interfaces
    moved = dataclasses.replace(
        interface, mtu=1400, vips=("10.20.0.19/32",), routes=(("10.77.0.0/16", "10.20.0.50"),), name="eth7"
    )
    host.put(dataclasses.replace(good, interfaces=(moved,)))
    assert "10.20.0.19/32" in host.addresses("eth7") and VIP not in host.addresses("eth7")
    routes = host.show("route")
    assert "10.77.0.0/16 via 10.20.0.50" in routes and "default" not in routes
    assert "mtu 1400" in host.show("link", "show", "eth7")
