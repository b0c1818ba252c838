"""Rendered load balancers serve real requests as their attributes say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from data_plane import CLIENTS, AmphoraHost, World, until
from trees import amphora, listener, member, monitor, pool, tree

from tavia.amphora.bundle import Bundle, Fence
from tavia.render import RenderSettings, VipNetwork, render_bundle

IPV4 = VipNetwork(cidr="10.20.0.0/24", gateway_ip=None, host_routes=(), mtu=1500)
IPV6 = VipNetwork(cidr="2001:db8::/64", gateway_ip=None, host_routes=(), mtu=1500)
FAST = {"delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}
ONE = {"address": "10.20.0.101"}
TWO = {"address": "10.20.0.102"}


def single(*rows: Any, **given: Any) -> Bundle:
    return render_bundle(tree(*rows, **given), amphora(), None, IPV4, RenderSettings(), Fence(1, 1, "w"))


def two_members(world: World) -> None:
    world.member("m1", 101)
    world.member("m2", 102)


def states(at: AmphoraHost) -> dict[str, str]:
    """Member -> what HAProxy thinks of it."""
    rows = [line.split(",") for line in at.ask("show stat -1 4 -1").splitlines() if line and line[0] != "#"]
    return {row[1]: row[17] for row in rows}


def head(answer: dict[str, Any]) -> list[str]:
    """The lines that the member saw."""
    return str(answer["head"]).split("\r\n")


def test_round_robin_follows_the_weights(world: World) -> None:
    two_members(world)
    world.amphora(single(listener(), pool(), member("m1", **ONE, weight=3), member("m2", **TWO, weight=1)))
    assert Counter(world.served_by(12)) == {"m1": 9, "m2": 3}


def test_a_disabled_member_and_one_of_weight_0_get_nothing(world: World) -> None:
    two_members(world)
    world.member("m3", 103)
    rows = (member("m1", **ONE), member("m2", **TWO, admin_state_up=False))
    world.amphora(single(listener(), pool(), *rows, member("m3", address="10.20.0.103", weight=0)))
    assert set(world.served_by(6)) == {"m1"}


def test_a_backup_member_serves_only_while_no_other_does(world: World) -> None:
    m1_down = world.member("m1", 101)
    world.member("m2", 102)
    world.amphora(single(listener(), pool(), monitor(**FAST), member("m1", **ONE), member("m2", **TWO, backup=True)))
    assert set(world.served_by(4)) == {"m1"}
    m1_down.touch()
    until(lambda: set(world.served_by(4)) == {"m2"})
    m1_down.unlink()
    until(lambda: set(world.served_by(4)) == {"m1"})


def test_a_listener_without_a_pool_in_service_answers_503(world: World) -> None:
    raw = listener("raw", protocol="TCP", protocol_port=81)
    world.amphora(single(listener(), raw, pool(admin_state_up=False), member()))
    assert world.get() == {"failed": 503}
    assert world.get(url="http://10.20.0.9:81/") == {"failed": 0}


def test_a_tcp_listener_passes_bytes_through(world: World) -> None:
    two_members(world)
    rows = (member("m1", **ONE), member("m2", **TWO))
    world.amphora(single(listener(protocol="TCP"), pool(lb_algorithm="LEAST_CONNECTIONS"), *rows))
    assert set(world.served_by(4)) == {"m1", "m2"}


def test_the_check_is_the_very_request_that_the_tenant_wrote(world: World) -> None:
    world.member("m1", 101)
    path, domain = """/x#"'\\%[src]%$HOME?a=b,c""", "a%[src]%%.example"
    check = monitor(**FAST, http_method="PUT", url_path=path, http_version=1.1, domain_name=domain)
    world.amphora(single(listener(), pool(), check, member("m1", **ONE)))
    request, *headers = world.checked_with("m1").split("\r\n")
    assert request == f"PUT {path} HTTP/1.1"
    assert domain in [header.partition(": ")[2] for header in headers]


def test_expected_codes_decide(world: World) -> None:
    world.member("m1", 101).touch()
    world.member("m2", 102)
    rows = (pool(), member("m1", **ONE), member("m2", **TWO))
    at = world.amphora(single(listener(), *rows, monitor(**FAST, expected_codes="500-503")))
    until(lambda: states(at) == {"m1": "UP", "m2": "DOWN"})


def test_a_monitor_at_another_address_and_port_decides(world: World) -> None:
    world.member("m1", 101)
    decides = world.member("side", 103, port=9000)
    aside = member("m1", **ONE, monitor_address="10.20.0.103", monitor_port=9000)
    at = world.amphora(single(listener(), pool(), monitor(**FAST), aside))
    assert world.checked_with("side").startswith("GET / HTTP/1.0")
    assert world.served_by(2) == ["m1", "m1"]
    decides.touch()
    until(lambda: states(at) == {"m1": "DOWN"})
    assert world.get() == {"failed": 503}


def test_source_ip_persistence_holds_a_client_to_its_member(world: World) -> None:
    two_members(world)
    persistent = pool(session_persistence={"type": "SOURCE_IP"})
    world.amphora(single(listener(), persistent, member("m1", **ONE), member("m2", **TWO)))
    held = {client: set(world.served_by(3, "--interface", client)) for client in CLIENTS[:4]}
    assert all(len(members) == 1 for members in held.values())
    assert set.union(*held.values()) == {"m1", "m2"}


def test_the_source_ip_algorithm_holds_a_client_to_its_member(world: World) -> None:
    two_members(world)
    world.amphora(single(listener(), pool(lb_algorithm="SOURCE_IP"), member("m1", **ONE), member("m2", **TWO)))
    held = [set(world.served_by(2, "--interface", client)) for client in CLIENTS]
    assert all(len(members) == 1 for members in held)
    assert set.union(*held) == {"m1", "m2"}


def test_a_cookie_of_haproxys_holds_a_client_to_its_member(world: World) -> None:
    two_members(world)
    persistent = pool(session_persistence={"type": "HTTP_COOKIE"})
    world.amphora(single(listener(), persistent, member("m1", **ONE), member("m2", **TWO)))
    jars = [str(world.lab.directory / f"jar{number}") for number in range(2)]
    held = [set(world.served_by(4, "-b", jar, "-c", jar)) for jar in jars]
    assert sorted(map(sorted, held)) == [["m1"], ["m2"]]


@pytest.mark.parametrize("name", ["sid", "a'#%[src]$)("])
def test_a_cookie_of_the_applications_holds_a_client_to_its_member(world: World, name: str) -> None:
    for own, host in (("m1", 101), ("m2", 102)):
        world.member(own, host, cookie=name)
    persistent = pool(session_persistence={"type": "APP_COOKIE", "cookie_name": name})
    world.amphora(single(listener(), persistent, member("m1", **ONE), member("m2", **TWO)))
    assert set(world.served_by(4)) == {"m1", "m2"}
    for own in ("m1", "m2"):
        assert world.served_by(4, "-b", f"{name}=of-{own}") == [own] * 4


def test_only_allowed_clients_are_let_in(world: World) -> None:
    world.member("m1", 101)
    others = [f"192.0.2.{host}/32" for host in range(100)]
    world.amphora(single(listener(allowed_cidrs=[*others, f"{CLIENTS[1]}/32"]), pool(), member("m1", **ONE)))
    assert world.get("--interface", CLIENTS[0]) == {"failed": 0}
    assert world.get("--interface", CLIENTS[1])["member"] == "m1"


def test_members_see_the_headers_that_were_asked_for(world: World) -> None:
    world.member("m1", 101)
    names = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP", "X-Real-IP")
    world.amphora(single(listener(insert_headers=dict.fromkeys(names, "true")), pool(), member("m1", **ONE)))
    seen = {line.lower() for line in head(world.get("-H", "X-Real-IP: 192.0.2.1", "--interface", CLIENTS[0]))}
    values = (CLIENTS[0], "80", "http", CLIENTS[0], CLIENTS[0], CLIENTS[0])
    assert {f"{name.lower()}: {value}" for name, value in zip(names, values, strict=True)} <= seen
    assert "x-real-ip: 192.0.2.1" not in seen, "a client must not forge it"


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_members_of_a_proxy_pool_learn_the_client(world: World, protocol: str) -> None:
    world.member("m1", 101)
    world.amphora(single(listener(protocol=protocol), pool(protocol="PROXY"), member("m1", **ONE)))
    first = head(world.get("--interface", CLIENTS[0]))[0]
    assert first.startswith(f"PROXY TCP4 {CLIENTS[0]} 10.20.0.9 ")


def test_members_of_a_proxyv2_pool_learn_the_client(world: World) -> None:
    world.member("m1", 101)
    world.amphora(single(listener(), pool(protocol="PROXYV2"), member("m1", **ONE)))
    seen = world.get("--interface", CLIENTS[0])["head"].encode("latin-1")
    assert seen == b"\r\n\r\n", "what the header begins with (PROXY protocol 2.2)"


def test_a_connection_limit_holds(world: World) -> None:
    world.member("m1", 101)
    at = world.amphora(single(listener(connection_limit=7), pool(), member("m1", **ONE)))
    assert at.ask("show stat").splitlines()[1].split(",")[6] == "7"


def test_everything_over_ipv6(world: World) -> None:
    two_members(world)
    aside = {"monitor_address": "2001:db8::101", "monitor_port": 8080}
    rows = (member("m1", address="2001:db8::101"), member("m2", address="2001:db8::102", **aside))
    wanted = tree(listener(), pool(), monitor(**FAST), *rows, vip_address="2001:db8::9")
    me = amphora(vrrp_ip="2001:db8::5")
    world.amphora(render_bundle(wanted, me, None, IPV6, RenderSettings(), Fence(1, 1, "w")))
    seen = {world.get(url="http://[2001:db8::9]/").get("member") for _ in range(4)}
    assert seen == {"m1", "m2"}


@pytest.mark.parametrize("algorithm", ["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"])
@pytest.mark.parametrize("persistence", [None, "SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"])
def test_a_server_line_of_any_pool_can_be_added_at_run_time(
    world: World, algorithm: str, persistence: str | None
) -> None:
    kept = {"type": persistence, "cookie_name": "sid"} if persistence else None
    proxy = pool(protocol="PROXYV2", lb_algorithm=algorithm, session_persistence=kept)
    before = (listener(), proxy, monitor(**FAST))
    at = world.amphora(single(*before))
    new = member("m1", address="2001:db8::101", backup=True, admin_state_up=False, monitor_port=81, weight=0)
    after = single(*before, new).files["haproxy.cfg"]
    line = next(line for line in after.splitlines() if line.startswith("    server "))
    assert at.ask(line.replace("    server ", "add server app:web/")).strip() == "New server registered."
