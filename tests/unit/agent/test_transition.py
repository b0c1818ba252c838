"""From one haproxy.cfg to another: nothing, runtime commands, a reload or a start."""

from __future__ import annotations

import pytest
from trees import haproxy_cfg, listener, member, monitor, pool

from tavia.agent.transition import KEEP_IDLE, Decision, decide, states_to_keep

M1, M2 = member(), member("m2", address="10.20.0.102")
CHECK = monitor(type="TCP")
SOURCE = pool(lb_algorithm="SOURCE_IP")
STICKY = pool(session_persistence={"type": "HTTP_COOKIE"})

ADD_M2 = (f"add server app:web/m2 10.20.0.102:8080 weight 1 {KEEP_IDLE}", "enable server app:web/m2")
LEAVE_M2 = ("set server app:web/m2 state maint",)


def runtime(*commands: str, leaving: frozenset[str] = frozenset()) -> Decision:
    return Decision("runtime", commands, leaving)


@pytest.mark.parametrize(
    ("before", "after", "decision"),
    [
        pytest.param([pool(), M1], [pool(), M1], Decision("none"), id="nothing changed"),
        pytest.param([pool(), M1], [pool(), M1, M2], runtime(*ADD_M2), id="a member more"),
        pytest.param(
            [pool(), M1, M2], [pool(), M1], runtime(*LEAVE_M2, leaving=frozenset({"app:web/m2"})), id="a member less"
        ),
        pytest.param(
            [pool(), M2],
            [pool(), M1],
            runtime(
                f"add server app:web/m1 10.20.0.101:8080 weight 1 {KEEP_IDLE}",
                "enable server app:web/m1",
                *LEAVE_M2,
                leaving=frozenset({"app:web/m2"}),
            ),
            id="the new one comes before the old one goes",
        ),
        pytest.param(
            [pool(), CHECK, M1],
            [pool(), CHECK, M1, M2],
            runtime(
                f"add server app:web/m2 10.20.0.102:8080 weight 1 check inter 5s fall 3 rise 2 {KEEP_IDLE}",
                "enable health app:web/m2",
                "enable server app:web/m2",
            ),
            id="a checked member more",
        ),
        pytest.param(
            [pool(), M1],
            [pool(), M1, member("m2", address="10.20.0.102", backup=True, admin_state_up=False)],
            runtime(f"add server app:web/m2 10.20.0.102:8080 weight 1 backup {KEEP_IDLE}"),
            id="a member that is down stays in maintenance",
        ),
        pytest.param(
            [pool(), M1],
            [pool(), M1, member("m2", address="2001:db8::2")],
            runtime(f"add server app:web/m2 [2001:db8::2]:8080 weight 1 {KEEP_IDLE}", "enable server app:web/m2"),
            id="an IPv6 member more",
        ),
        pytest.param(
            [pool(), M1], [pool(), member(weight=0)], runtime("set server app:web/m1 weight 0"), id="another weight"
        ),
        pytest.param(
            [pool(), M1],
            [pool(), member(admin_state_up=False)],
            runtime("set server app:web/m1 state maint"),
            id="a member set down",
        ),
        pytest.param(
            [pool(), member(admin_state_up=False)],
            [pool(), member(weight=5)],
            runtime("set server app:web/m1 weight 5", "set server app:web/m1 state ready"),
            id="a member set up with another weight",
        ),
        pytest.param(
            [pool(), CHECK, member(monitor_address="10.0.0.1", monitor_port=1)],
            [pool(), CHECK, member(monitor_address="10.0.0.2", monitor_port=2)],
            runtime("set server app:web/m1 check-addr 10.0.0.2 port 2"),
            id="another monitor address and port",
        ),
        pytest.param(
            [pool(), CHECK, member(monitor_port=1)],
            [pool(), CHECK, member(monitor_port=2)],
            runtime("set server app:web/m1 check-port 2"),
            id="another monitor port",
        ),
        pytest.param([SOURCE, M1], [SOURCE, M1, M2], runtime(*ADD_M2), id="consistent hashing takes members"),
        pytest.param(
            [STICKY, M1],
            [STICKY, M1, M2],
            runtime(*ADD_M2, "enable dynamic-cookie backend app:web"),
            id="a member of a pool with dynamic cookies",
        ),
        pytest.param(
            [pool(), CHECK, M1],
            [pool(), CHECK, member(monitor_port=2)],
            Decision("reload"),
            id="a monitor port where there was none",
        ),
        pytest.param([pool(), M1], [pool(), member(backup=True)], Decision("reload"), id="backup"),
        pytest.param([pool(), M1], [pool(), member(protocol_port=81)], Decision("reload"), id="another port"),
        pytest.param([pool(), M1], [pool(), CHECK, M1], Decision("reload"), id="a monitor more"),
        pytest.param([pool(), CHECK, M1], [pool(), monitor(type="HTTP"), M1], Decision("reload"), id="another monitor"),
        pytest.param([pool(), M1], [SOURCE, M1], Decision("reload"), id="another algorithm"),
        pytest.param(
            [pool(), M1], [pool(), M1, listener("two", protocol_port=81)], Decision("reload"), id="a listener"
        ),
    ],
)
def test_the_cheapest_way_is_taken(before: list[object], after: list[object], decision: Decision) -> None:
    assert decide(haproxy_cfg(listener(), *before), haproxy_cfg(listener(), *after)) == decision


def test_a_haproxy_that_does_not_run_is_started() -> None:
    assert decide(None, haproxy_cfg(listener(), pool())) == Decision("start")


def test_what_is_loaded_unknown_is_a_reload() -> None:
    assert decide("", haproxy_cfg(listener(), pool())) == Decision("reload")


def test_a_listener_s_connection_limit_is_a_runtime_command() -> None:
    before, after = (haproxy_cfg(listener(connection_limit=limit), pool()) for limit in (-1, 7))
    assert decide(before, after) == runtime("set maxconn frontend web 7")


def test_another_timeout_of_a_listener_is_a_reload() -> None:
    before, after = (haproxy_cfg(listener(timeout_client_data=ms), pool()) for ms in (1, 7))
    assert decide(before, after) == Decision("reload")


BACKEND = "backend app:web\n    balance {}\n    server m1 10.0.0.1:80\n"


@pytest.mark.parametrize(
    ("settings", "action"),
    [
        ("leastconn", "runtime"),
        ("random(2)", "runtime"),
        ("source", "reload"),
        ("uri\n    hash-type consistent", "runtime"),
        ("roundrobin\n    default-server check", "reload"),
        ("roundrobin\n    cookie SRV insert", "reload"),
    ],
)
def test_only_some_backends_take_members_at_run_time(settings: str, action: str) -> None:
    before = BACKEND.format(settings)
    assert decide(before, before + "    server m2 10.0.0.2:80\n").action == action


@pytest.mark.parametrize("words", ["cookie m2", "sni str(a;b)", "id 'x'"])
def test_servers_with_words_that_the_runtime_api_does_not_take_are_a_reload(words: str) -> None:
    before = BACKEND.format("roundrobin")
    assert decide(before, before + f"    server m2 10.0.0.2:80 {words}\n") == Decision("reload")


STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
3 app:web 1 m1 10.20.0.101 {} {} 1 1

"""


def states(operational: int = 0, administrative: int = 0) -> str:
    return STATES.format(operational, administrative)


def test_a_member_that_is_down_stays_down_over_a_reload_that_does_not_concern_it() -> None:
    before = haproxy_cfg(listener(), pool(), CHECK, M1)
    after = haproxy_cfg(listener(), pool(), CHECK, M1, M2, listener("two", protocol_port=81))
    assert "10.20.0.101 0 0" in states_to_keep(states(), before, after)


@pytest.mark.parametrize(
    ("shown", "after"),
    [
        pytest.param(states(operational=2), [pool(), CHECK, M1], id="up"),
        pytest.param(states(administrative=1), [pool(), CHECK, M1], id="in maintenance"),
        pytest.param(states(), [pool(), M1], id="no longer checked"),
        pytest.param(states(), [pool(), monitor(type="HTTP"), M1], id="checked in another way"),
        pytest.param(states(), [pool(), CHECK, member(protocol_port=81)], id="at another port"),
        pytest.param(states(), [pool(), CHECK], id="removed"),
    ],
)
def test_every_other_state_is_forgotten(shown: str, after: list[object]) -> None:
    kept = states_to_keep(shown, haproxy_cfg(listener(), pool(), CHECK, M1), haproxy_cfg(listener(), *after))
    assert kept.splitlines() == shown.splitlines()[:2]
