"""What each attribute becomes in haproxy.cfg; HAProxy itself accepts every configuration here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from trees import NETWORK, PAIRED, haproxy_cfg, listener, member, monitor, pair, pool, tree

from tavia.amphora.bundle import Fence
from tavia.render import RenderSettings, render_bundle, unit_of_line
from tavia.render.quoting import Place, quoted

Accepted = Callable[[str], str]


def section(cfg: str, head: str) -> list[str]:
    """The lines below ``head``, without indentation."""
    found = [part for part in cfg.split("\n\n") if part.startswith(head + "\n")]
    assert len(found) == 1, cfg
    return [line.strip() for line in found[0].splitlines()[1:]]


def test_a_whole_load_balancer_reads_like_this(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(), member("m1"), member("m2", address="10.20.0.102")))
    assert section(cfg, "frontend web") == [
        "mode http",
        "bind 10.20.0.9:80",
        "maxconn 50000",
        "timeout client 50000ms",
        "option idle-close-on-response",
        "default_backend app:web",
    ]
    assert section(cfg, "backend app:web") == [
        "mode http",
        "balance roundrobin",
        "option allbackups",
        "timeout connect 5000ms",
        "timeout server 50000ms",
        "load-server-state-from-file global",
        "timeout check 4s",
        "option httpchk",
        "http-check send meth GET uri / ver HTTP/1.0",
        "http-check expect status 200",
        "server m1 10.20.0.101:8080 weight 1 check inter 5s fall 3 rise 2",
        "server m2 10.20.0.102:8080 weight 1 check inter 5s fall 3 rise 2",
    ]


def test_the_agent_reaches_haproxy_and_a_reload_takes_over_its_sockets(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg())
    assert section(cfg, "global") == [
        "user haproxy",
        "group haproxy",
        "localpeer amphora-1",
        "stats socket /run/tavia/haproxy.sock mode 600 level admin expose-fd listeners",
        "server-state-file /run/tavia/server-state",
        "hard-stop-after 1800000ms",
        "mworker-max-reloads 50",
        "fd-hard-limit 1048576",
    ]
    assert section(cfg, "defaults") == ["retries 3", "option redispatch"]


def test_the_open_file_limit_decides_how_many_connections_there_may_be(accepted: Accepted) -> None:
    assert not [line for line in section(accepted(haproxy_cfg()), "global") if line.startswith("maxconn")]


def test_threads_are_haproxys_own_choice_unless_configured(accepted: Accepted) -> None:
    assert "nbthread" not in haproxy_cfg()
    assert "nbthread 1" in section(accepted(haproxy_cfg(settings=RenderSettings(nbthread=1))), "global")


def test_nothing_is_logged_per_request_unless_configured(accepted: Accepted) -> None:
    assert "log" not in haproxy_cfg(listener(), pool())
    both = (listener(), listener("raw", protocol="TCP", protocol_port=81), pool())
    cfg = accepted(haproxy_cfg(*both, settings=RenderSettings(connection_logging=True)))
    assert section(cfg, "global")[-1] == "log stdout format raw local0 info"
    assert section(cfg, "defaults")[-1] == "log global"
    assert "option httplog" in section(cfg, "frontend web")
    assert "option tcplog" in section(cfg, "frontend raw")


def test_octavias_log_format_is_taken_as_it_is(accepted: Accepted) -> None:
    octavias = "{{ project_id }} {{ lb_id }} %f %{+Q}r %ST %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %tsc"
    both = (listener(), listener("raw", protocol="TCP", protocol_port=81), pool())
    cfg = accepted(haproxy_cfg(*both, settings=RenderSettings(connection_logging=True, log_format=octavias)))
    whole, of_tcp = (
        f"log-format {quoted(f'tenant lb %f {request} %[ssl_c_verify] %{{+Q}}[ssl_c_s_dn] %b %tsc')}"
        for request in ("%{+Q}r %ST", "- -")
    )
    assert whole in section(cfg, "frontend web")
    assert of_tcp in section(cfg, "frontend raw"), "HAProxy refuses what only HTTP knows"


def test_a_load_balancer_without_listeners_is_a_valid_configuration(accepted: Accepted) -> None:
    assert "frontend" not in accepted(haproxy_cfg())


@pytest.mark.parametrize("down", ["loadbalancer", "listener"])
def test_what_is_administratively_down_is_not_bound(accepted: Accepted, down: str) -> None:
    rows = (listener(admin_state_up=down != "listener"), pool(), member())
    assert "bind" not in accepted(haproxy_cfg(*rows, admin_state_up=down != "loadbalancer"))


def test_a_pool_that_is_down_leaves_its_listener_without_a_backend(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(admin_state_up=False), member()))
    assert "bind 10.20.0.9:80" in cfg
    assert "backend" not in cfg


def test_a_pool_without_a_listener_is_not_rendered(accepted: Accepted) -> None:
    assert "backend" not in accepted(haproxy_cfg(pool(), member()))


def test_a_pool_is_rendered_for_each_listener_in_that_listeners_mode(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), listener("raw", protocol="TCP", protocol_port=81), pool(), member()))
    assert "mode http" in section(cfg, "backend app:web")
    assert "mode tcp" in section(cfg, "backend app:raw")


@pytest.mark.parametrize(
    ("algorithm", "lines"),
    [
        ("ROUND_ROBIN", ["balance roundrobin"]),
        ("LEAST_CONNECTIONS", ["balance leastconn"]),
        ("SOURCE_IP", ["balance source", "hash-type consistent"]),
    ],
)
def test_algorithms(accepted: Accepted, algorithm: str, lines: list[str]) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(lb_algorithm=algorithm), member()))
    assert section(cfg, "backend app:web")[1 : 1 + len(lines)] == lines


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "server m1 10.20.0.101:8080 weight 1"),
        ({"weight": 0}, "server m1 10.20.0.101:8080 weight 0"),
        ({"weight": 256, "backup": True}, "server m1 10.20.0.101:8080 weight 256 backup"),
        ({"admin_state_up": False}, "server m1 10.20.0.101:8080 weight 1 disabled"),
        ({"address": "2001:db8::7"}, "server m1 [2001:db8::7]:8080 weight 1"),
    ],
)
def test_members(accepted: Accepted, given: dict[str, Any], line: str) -> None:
    assert line in section(accepted(haproxy_cfg(listener(), pool(), member(**given))), "backend app:web")


@pytest.mark.parametrize(("protocol", "ending"), [("PROXY", " send-proxy"), ("PROXYV2", " send-proxy-v2")])
def test_pools_of_the_proxy_protocol(accepted: Accepted, protocol: str, ending: str) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(protocol=protocol), member()))
    assert f"server m1 10.20.0.101:8080 weight 1{ending}" in section(cfg, "backend app:web")


def test_a_pool_of_https_passes_through(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(protocol="TCP"), pool(protocol="HTTPS"), member()))
    assert "mode tcp" in section(cfg, "backend app:web")


def test_members_may_be_checked_at_another_address_and_port(accepted: Accepted) -> None:
    other = member(monitor_address="2001:db8::8", monitor_port=9000)
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(type="TCP"), other))
    ending = "check inter 5s fall 3 rise 2 addr [2001:db8::8] port 9000"
    assert f"server m1 10.20.0.101:8080 weight 1 {ending}" in section(cfg, "backend app:web")


def test_a_tcp_monitor_only_connects(accepted: Accepted) -> None:
    lines = section(accepted(haproxy_cfg(listener(), pool(), monitor(type="TCP"), member())), "backend app:web")
    assert [line for line in lines if "http" in line] == ["mode http"]


def test_a_monitor_that_is_down_checks_nothing(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(admin_state_up=False), member()))
    assert "check" not in cfg
    assert "load-server-state-from-file" not in cfg, "nothing would bring a server up that was saved as DOWN"


@pytest.mark.parametrize("codes", ["200", "200,202", "200, 202", "200-204"])
def test_expected_codes(accepted: Accepted, codes: str) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(expected_codes=codes), member()))
    line = next(line for line in section(cfg, "backend app:web") if "expect" in line)
    assert line == f"http-check expect status {codes.replace(' ', '')}"


@pytest.mark.parametrize(
    ("given", "request_line"),
    [
        ({"http_method": "HEAD", "url_path": "/a?b"}, "meth HEAD uri /a?b ver HTTP/1.0"),
        ({"http_version": 1.1}, "meth GET uri / ver HTTP/1.1 hdr Host 10.20.0.9"),
        ({"http_version": 1.0, "domain_name": "a.example"}, "meth GET uri / ver HTTP/1.0 hdr Host a.example"),
        ({"http_version": 1.1, "domain_name": "a.example"}, "meth GET uri / ver HTTP/1.1 hdr Host a.example"),
    ],
)
def test_http_checks(accepted: Accepted, given: dict[str, Any], request_line: str) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(**given), member()))
    assert f"http-check send {request_line}" in section(cfg, "backend app:web")


def test_a_monitor_without_pause_pauses_the_least_that_haproxy_takes(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(delay=0, timeout=0), member()))
    assert "server m1 10.20.0.101:8080 weight 1 check inter 1s fall 3 rise 2" in section(cfg, "backend app:web")


def test_where_both_vips_are_ipv6_an_http_check_names_the_first_in_brackets(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(http_version=1.1), member(), vip_address="2001:db8::9"))
    host = quoted("[2001:db8::9]", Place.FORMAT)
    assert f"http-check send meth GET uri / ver HTTP/1.1 hdr Host {host}" in section(cfg, "backend app:web")


def test_source_ip_persistence_keeps_a_table_that_survives_a_reload(accepted: Accepted) -> None:
    persistent = pool(session_persistence={"type": "SOURCE_IP"})
    cfg = accepted(haproxy_cfg(listener(), persistent, member(), settings=RenderSettings(stick_size="20k")))
    lines = section(cfg, "backend app:web")
    assert "stick-table type ipv6 size 20k peers amphorae" in lines
    assert "stick on src" in lines
    assert section(cfg, "peers amphorae") == ["peer amphora-1 127.0.0.1:1025"]


def test_an_application_cookie_leads_back_to_its_member_and_is_kept_as_a_digest(accepted: Accepted) -> None:
    persistent = pool(session_persistence={"type": "APP_COOKIE", "cookie_name": "sid"})
    lines = section(accepted(haproxy_cfg(listener(), persistent, member())), "backend app:web")
    cookie = quoted("sid", Place.ARGUMENT)
    assert [line for line in lines if line.startswith("stick")] == [
        "stick-table type binary len 20 size 10k peers amphorae",
        f"stick store-response res.cook({cookie}),sha1",
        f"stick match req.cook({cookie}),sha1",
    ]


def test_haproxys_cookie_leads_back_to_its_member_on_either_amphora(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(session_persistence={"type": "HTTP_COOKIE"}), member()))
    lines = section(cfg, "backend app:web")
    assert "cookie SRV insert indirect nocache dynamic" in lines
    assert "dynamic-cookie-key app" in lines, "the same on both"
    assert "stick" not in cfg


def test_the_two_amphorae_of_a_pair_tell_each_other_their_tables(accepted: Accepted) -> None:
    wanted = tree(listener(), pool(session_persistence={"type": "SOURCE_IP"}), member(), topology=PAIRED)
    for me, other in (pair(), pair()[::-1]):
        bundle = render_bundle(wanted, me, other, NETWORK, RenderSettings(), Fence(1, 1, "worker"))
        cfg = accepted(bundle.files["haproxy.cfg"])
        assert f"localpeer {me.id}" in section(cfg, "global")
        assert sorted(section(cfg, "peers amphorae")) == [
            "peer amphora-1 10.20.0.5:1025",
            "peer amphora-2 10.20.0.6:1025",
        ]


def test_without_a_table_no_peers_port_is_opened(accepted: Accepted) -> None:
    assert "peers" not in accepted(haproxy_cfg(listener(), pool(), member()))


def test_cookies_mean_nothing_to_a_tcp_listener(accepted: Accepted) -> None:
    for kind in ("HTTP_COOKIE", "APP_COOKIE"):
        persistence = {"type": kind, "cookie_name": "sid"}
        cfg = accepted(haproxy_cfg(listener(protocol="TCP"), pool(session_persistence=persistence), member()))
        assert "cook" not in cfg


def test_timeouts_are_milliseconds_and_0_is_for_ever(accepted: Accepted) -> None:
    forever: dict[str, Any] = {"timeout_client_data": 0, "timeout_member_connect": 0, "timeout_member_data": 0}
    cfg = accepted(haproxy_cfg(listener(**forever), pool(), member()))
    assert "timeout client 0ms" in cfg
    assert "timeout server 0ms" in cfg
    assert "timeout connect 0ms" in cfg
    assert "inspect-delay" not in cfg
    longest = 2073600000
    cfg = accepted(haproxy_cfg(listener(timeout_client_data=longest, timeout_tcp_inspect=longest), pool()))
    assert f"timeout client {longest}ms" in cfg
    assert f"tcp-request inspect-delay {longest}ms" in cfg


def test_a_connection_limit_is_the_front_ends(accepted: Accepted) -> None:
    assert "maxconn 12" in section(accepted(haproxy_cfg(listener(connection_limit=12))), "frontend web")
    for unlimited in (-1, 0):
        cfg = haproxy_cfg(listener(connection_limit=unlimited), settings=RenderSettings(default_connection_limit=777))
        assert "maxconn 777" in section(accepted(cfg), "frontend web")


def test_the_longest_check_that_the_api_takes_is_accepted(accepted: Accepted) -> None:
    cfg = accepted(haproxy_cfg(listener(), pool(), monitor(delay=2147483, timeout=2147483), member()))
    assert "timeout check 2147483s" in cfg


def test_who_is_in_none_of_thousands_of_allowed_cidrs_is_refused(accepted: Accepted) -> None:
    cidrs = [f"10.{i // 256}.{i % 256}.0/24" for i in range(3000)] + ["2001:db8::/32"]
    lines = section(accepted(haproxy_cfg(listener(allowed_cidrs=cidrs), pool())), "frontend web")
    allowing = [line.split() for line in lines if line.startswith("acl allowed src ")]
    assert [cidr for line in allowing for cidr in line[3:]] == cidrs
    assert max(len(line) for line in allowing) <= 64, "more words on a line are refused"
    assert "tcp-request connection reject unless allowed" in lines


@pytest.mark.parametrize("cidrs", [None, []])
def test_without_allowed_cidrs_all_may_connect(accepted: Accepted, cidrs: list[str] | None) -> None:
    assert "allowed" not in accepted(haproxy_cfg(listener(allowed_cidrs=cidrs), pool()))


def test_only_headers_that_are_known_and_wanted_are_inserted(accepted: Accepted) -> None:
    wanted = {"X-Forwarded-For": "true", "X-Forwarded-Port": "True", "X-Real-IP": "false", "Evil\nbind :1": "true"}
    lines = section(accepted(haproxy_cfg(listener(insert_headers=wanted))), "frontend web")
    assert [line for line in lines if line.startswith(("option f", "http-request"))] == [
        "option forwardfor",
        "http-request set-header X-Forwarded-Port %[dst_port]",
    ]


def test_each_header_is_inserted_from_what_haproxy_saw_itself(accepted: Accepted) -> None:
    names = ("For", "Port", "Proto", "IP")
    wanted = dict.fromkeys([*(f"X-Forwarded-{name}" for name in names), "X-Client-IP", "X-Real-IP"], "true")
    lines = section(accepted(haproxy_cfg(listener(insert_headers=wanted))), "frontend web")
    assert [line for line in lines if line.startswith(("option f", "http-request"))] == [
        "option forwardfor",
        "http-request set-header X-Forwarded-Port %[dst_port]",
        "http-request set-header X-Forwarded-Proto http",
        "http-request set-header X-Forwarded-IP %[src]",
        "http-request set-header X-Client-IP %[src]",
        "http-request set-header X-Real-IP %[src]",
    ]


def test_a_tcp_listener_reads_no_http(accepted: Accepted) -> None:
    raw = listener(protocol="TCP", insert_headers={"X-Forwarded-For": "true"}, default_pool_id=None)
    assert section(accepted(haproxy_cfg(raw)), "frontend web") == [
        "mode tcp",
        "bind 10.20.0.9:80",
        "maxconn 50000",
        "timeout client 50000ms",
    ]


def test_ipv6_and_further_vips_are_bound(accepted: Accepted) -> None:
    further = [{"subnet_id": "s", "ip_address": "10.20.0.10"}]
    cfg = accepted(haproxy_cfg(listener(), vip_address="2001:db8::9", additional_vips=further))
    assert section(cfg, "frontend web")[1:3] == ["bind [2001:db8::9]:80", "bind 10.20.0.10:80"]


def test_every_line_names_its_unit() -> None:
    cfg = haproxy_cfg(listener(), listener("other", protocol_port=81, default_pool_id=None), pool(), member())
    units = [unit_of_line(cfg, number) for number in range(1, len(cfg.splitlines()) + 1)]
    named = dict(zip(cfg.splitlines(), units, strict=True))
    assert named["global"] is None
    assert named["defaults"] is None
    assert named["    bind 10.20.0.9:80"] == "web"
    assert named["    bind 10.20.0.9:81"] == "other"
    assert named["backend app:web"] == "app"
    assert named["    server m1 10.20.0.101:8080 weight 1"] == "app"


def test_haproxys_alert_leads_to_the_unit_it_refuses(haproxy_says: Callable[[str], Any]) -> None:
    cfg = haproxy_cfg(listener(), pool(), monitor(expected_codes="x99"), member())
    alert = next(line for line in haproxy_says(cfg).stderr.splitlines() if "parsing [" in line)
    number = int(alert.partition("haproxy.cfg:")[2].partition("]")[0])
    assert unit_of_line(cfg, number) == "app"
