"""Listeners, pools, members and health monitors: their attributes, rules and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import SUBNET, Api, ApiFactory

NOWHERE = "7f0a2c6e-7a7c-4f8f-9d67-0d4f2b9c1a11"


@pytest.fixture
def lb(api: Api) -> str:
    loadbalancer_id: str = api.loadbalancer()["id"]
    return loadbalancer_id


def refused(api: Api, root: str, path: str, **attributes: Any) -> tuple[int, str]:
    return api.refusal("POST", path, {root: attributes})


# -- Listeners -------------------------------------------------------------------------------------------------------


def test_a_listener_has_the_attributes_and_defaults_that_clients_know(api: Api, lb: str) -> None:
    listener = api.listener(lb)
    expected = {
        "protocol": "HTTP",
        "protocol_port": 80,
        "connection_limit": -1,
        "timeout_client_data": 50000,
        "timeout_member_connect": 5000,
        "timeout_member_data": 50000,
        "timeout_tcp_inspect": 0,
        "insert_headers": {},
        "allowed_cidrs": None,
        "default_pool_id": None,
        "client_authentication": "NONE",
        "default_tls_container_ref": None,
        "sni_container_refs": [],
        "l7policies": [],
        "loadbalancers": [{"id": lb}],
        "operating_status": "OFFLINE",
        "provisioning_status": "PENDING_CREATE",
    }
    assert {name: listener[name] for name in expected} == expected
    assert api.get(f"/listeners/{listener['id']}")["listener"] == listener


def test_timeouts_that_are_not_given_are_the_configured_ones(make_api: ApiFactory) -> None:
    api = make_api(haproxy_amphora={"timeout_client_data": "7000"})
    created = api.loadbalancer(listeners=[{"protocol": "HTTP", "protocol_port": 81}])
    assert created["listeners"][0]["timeout_client_data"] == 7000
    listener = api.listener(created["id"], timeout_client_data=1)
    assert listener["timeout_client_data"] == 1
    reset = api.put("listener", f"/listeners/{listener['id']}", timeout_client_data=None)
    assert reset["timeout_client_data"] == 7000


@pytest.mark.parametrize(
    ("attributes", "status", "gist"),
    [
        ({"loadbalancer_id": NOWHERE}, 404, f"Load Balancer {NOWHERE} not found."),
        ({"loadbalancer_id": None}, 400, "loadbalancer_id. Value: 'None'. Mandatory field missing."),
        ({"protocol_port": 0}, 400, "Value should be greater or equal to 1"),
        ({"protocol_port": 65536}, 400, "Value should be lower or equal to 65535"),
        ({"protocol_port": 10**30}, 400, "Value should be lower or equal to 65535"),
        ({"protocol": "QUIC"}, 400, "protocol. Value: 'QUIC'. Value should be one of: HTTP, TCP"),
        ({"protocol": "TERMINATED_HTTPS"}, 501, "option: protocol TERMINATED_HTTPS has no effect yet"),
        ({"name": "n" * 256}, 400, "maximum character requirement of 255"),
        ({"connection_limit": -2}, 400, "greater or equal to -1"),
        ({"timeout_client_data": 2073600001}, 400, "lower or equal to 2073600000"),
        ({"tags": ["x", 5]}, 400, "tags.1. Value: '5'. Value should be string"),
        ({"allowed_cidrs": ["10.0.0.0/33"]}, 400, "allowed_cidrs.0"),
        ({"allowed_cidrs": ["2001:db8::/32"]}, 400, "of another IP version than the VIP"),
        ({"insert_headers": {"X-Evil": "true"}}, 400, "X-Evil is not a valid option for insert_headers"),
        ({"insert_headers": {"X-Forwarded-For": "maybe"}}, 400, "maybe is not a valid option"),
        ({"protocol": "TCP", "insert_headers": {"X-Forwarded-For": "true"}}, 400, "protocol TCP"),
        ({"default_pool_id": NOWHERE}, 404, f"Pool {NOWHERE} not found."),
        ({"default_tls_container_ref": "http://secret"}, 501, "default_tls_container_ref has no effect yet"),
        ({"client_authentication": "MANDATORY"}, 501, "client_authentication has no effect yet"),
        ({"hsts_max_age": 5}, 501, "hsts_max_age has no effect yet"),
    ],
)
def test_a_listener_that_cannot_be_is_refused(
    api: Api, lb: str, attributes: dict[str, Any], status: int, gist: str
) -> None:
    given = {"loadbalancer_id": lb, "protocol": "HTTP", "protocol_port": 80} | attributes
    told = refused(api, "listener", "/listeners", **given)
    assert told[0] == status
    assert gist in told[1]
    assert api.get("/listeners")["listeners"] == []


def test_numbers_are_taken_as_strings_and_booleans_as_words(api: Api, lb: str) -> None:
    listener = api.listener(lb, port="81", admin_state_up="no")  # type: ignore[arg-type]
    assert (listener["protocol_port"], listener["admin_state_up"]) == (81, False)


def test_allowed_cidrs_are_normalised_to_their_network(api: Api, lb: str) -> None:
    assert api.listener(lb, allowed_cidrs=["10.1.2.3/8"])["allowed_cidrs"] == ["10.0.0.0/8"]


def test_a_port_is_used_once_on_each_load_balancer(api: Api, lb: str) -> None:
    api.listener(lb, 80)
    told = refused(api, "listener", "/listeners", loadbalancer_id=lb, protocol="TCP", protocol_port=80)
    assert told == (409, "Another Listener on this Load Balancer is already using protocol_port 80")
    assert api.listener(api.loadbalancer()["id"], 80)


def test_a_listener_takes_pools_of_its_load_balancer_and_of_fitting_protocols(api: Api, lb: str) -> None:
    tcp, http = (api.pool(loadbalancer_id=lb, protocol=protocol)["id"] for protocol in ("TCP", "HTTP"))
    elsewhere = api.pool(loadbalancer_id=api.loadbalancer()["id"])["id"]
    listener = api.listener(lb, default_pool_id=http)
    path = f"/listeners/{listener['id']}"
    assert api.refusal("PUT", path, {"listener": {"default_pool_id": tcp}}) == (
        400,
        "Validation failure: The pool protocol 'TCP' is invalid while the listener protocol is 'HTTP'.",
    )
    assert api.refusal("PUT", path, {"listener": {"default_pool_id": elsewhere}})[0] == 404
    assert api.put("listener", path, default_pool_id=None)["default_pool_id"] is None


def test_a_listener_can_bring_its_default_pool(api: Api, lb: str) -> None:
    pool = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [{"address": "::1", "protocol_port": 1}]}
    listener = api.listener(lb, default_pool=pool)
    assert api.get(f"/pools/{listener['default_pool_id']}")["pool"]["listeners"] == [{"id": listener["id"]}]


# -- Pools -----------------------------------------------------------------------------------------------------------


def test_a_pool_has_the_attributes_that_clients_know(api: Api, lb: str) -> None:
    listener = api.listener(lb)["id"]
    pool = api.pool(listener_id=listener)
    member, monitor = api.member(pool["id"]), api.monitor(pool["id"])
    expected = {
        "loadbalancers": [{"id": lb}],
        "listeners": [{"id": listener}],
        "members": [{"id": member["id"]}],
        "healthmonitor_id": monitor["id"],
        "session_persistence": None,
        "tls_enabled": False,
        "operating_status": "OFFLINE",
    }
    shown = api.get(f"/pools/{pool['id']}")["pool"]
    assert {name: shown[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("attributes", "status", "gist"),
    [
        ({"loadbalancer_id": None}, 400, "Must provide at least one of: loadbalancer_id, listener_id"),
        ({"listener_id": NOWHERE}, 404, f"Listener {NOWHERE} not found."),
        ({"lb_algorithm": None}, 400, "lb_algorithm. Value: 'None'. Mandatory field missing."),
        ({"lb_algorithm": "SOURCE_IP_PORT"}, 501, "option: lb_algorithm SOURCE_IP_PORT has no effect yet"),
        ({"protocol": "UDP"}, 501, "option: protocol UDP has no effect yet"),
        ({"tls_enabled": True}, 501, "tls_enabled has no effect yet"),
        ({"session_persistence": {"type": "APP_COOKIE"}}, 400, "Cookie name is required"),
        ({"session_persistence": {"type": "HTTP_COOKIE", "cookie_name": "x"}}, 400, "Cookie name is not allowed"),
        ({"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a b"}}, 400, "cookie_name"),
        ({"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 5}}, 400, "only for pools with protocol"),
        ({"session_persistence": {}}, 400, "session_persistence.type. Value: 'None'. Mandatory"),
        ({"session_persistence": {"type": "NO"}}, 400, "session_persistence.type"),
        ({"protocol": "TCP", "session_persistence": {"type": "HTTP_COOKIE"}}, 400, "not possible with protocol TCP"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(
    api: Api, lb: str, attributes: dict[str, Any], status: int, gist: str
) -> None:
    given = {"loadbalancer_id": lb, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"} | attributes
    told = refused(api, "pool", "/pools", **given)
    assert told[0] == status
    assert gist in told[1]
    assert api.get("/pools")["pools"] == []


def test_a_listener_has_one_default_pool(api: Api, lb: str) -> None:
    listener = api.listener(lb)["id"]
    api.pool(listener_id=listener)
    body = {"listener_id": listener, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    assert refused(api, "pool", "/pools", **body)[0] == 409


def test_session_persistence_is_changed_in_part_and_removed_with_null(api: Api, lb: str) -> None:
    pool = api.pool(loadbalancer_id=lb, session_persistence={"type": "APP_COOKIE", "cookie_name": "a"})
    path = f"/pools/{pool['id']}"
    assert api.put("pool", path, session_persistence={"cookie_name": "b"})["session_persistence"] == {
        "type": "APP_COOKIE",
        "cookie_name": "b",
        "persistence_timeout": None,
        "persistence_granularity": None,
    }
    assert (
        api.put("pool", path, session_persistence={"type": "SOURCE_IP"})["session_persistence"]["cookie_name"] is None
    )
    assert api.put("pool", path, session_persistence=None)["session_persistence"] is None
    assert api.refusal("PUT", path, {"pool": {"session_persistence": {"cookie_name": "b"}}})[0] == 400


def test_a_pool_can_bring_members_and_a_monitor(api: Api, lb: str) -> None:
    monitor = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    members = [{"address": "10.0.0.1", "protocol_port": port} for port in (1, 2)]
    pool = api.pool(loadbalancer_id=lb, members=members, healthmonitor=monitor)
    assert len(pool["members"]) == 2
    assert pool["healthmonitor_id"]
    told = refused(
        api, "pool", "/pools", loadbalancer_id=lb, protocol="HTTP", lb_algorithm="SOURCE_IP", members=members * 2
    )
    assert told == (409, "Another member on this pool is already using ip 10.0.0.1 on protocol_port 1")


# -- Members ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(api: Api, lb: str) -> str:
    pool_id: str = api.pool(loadbalancer_id=lb)["id"]
    return pool_id


def test_a_member_starts_unmonitored_or_offline(api: Api, pool: str) -> None:
    assert api.member(pool)["operating_status"] == "NO_MONITOR"
    api.monitor(pool)
    assert api.member(pool, port=81)["operating_status"] == "OFFLINE"


@pytest.mark.parametrize(
    ("attributes", "status", "gist"),
    [
        ({"address": "10.0.0"}, 400, "address. Value: '10.0.0'. Value should be IPv4 or IPv6 format"),
        ({"address": "::1%lo"}, 400, "IPv4 or IPv6"),
        ({"address": "169.254.169.254"}, 400, "169.254.169.254 is not a valid option for member address"),
        ({"address": "::ffff:169.254.169.254"}, 400, "is not a valid option for member address"),
        ({"address": "::FFFF:A9FE:A9FE"}, 400, "is not a valid option for member address"),
        ({"weight": 257}, 400, "lower or equal to 256"),
        ({"weight": "x"}, 400, "Value should be an integer"),
        ({"weight": 1.5}, 400, "Value should be an integer"),
        ({"monitor_address": "169.254.169.254"}, 400, "not a valid option for monitor_address of a member"),
        ({"monitor_port": 0}, 400, "greater or equal to 1"),
        ({"request_sriov": True}, 501, "request_sriov has no effect yet"),
        ({"subnet_id": "x"}, 400, "UUID"),
    ],
)
def test_a_member_that_cannot_be_is_refused(
    api: Api, pool: str, attributes: dict[str, Any], status: int, gist: str
) -> None:
    given = {"address": "10.0.0.1", "protocol_port": 80} | attributes
    told = refused(api, "member", f"/pools/{pool}/members", **given)
    assert told[0] == status
    assert gist in told[1]


def test_an_address_and_port_are_one_member_however_they_are_written(api: Api, pool: str) -> None:
    assert api.member(pool, "2001:DB8::0:1")["address"] == "2001:db8::1"
    told = refused(api, "member", f"/pools/{pool}/members", address="2001:db8:0::1", protocol_port=80)
    assert told == (409, "Another member on this pool is already using ip 2001:db8::1 on protocol_port 80")


def test_a_member_is_found_below_its_own_pool_only(api: Api, lb: str, pool: str) -> None:
    member = api.member(pool)["id"]
    other = api.pool(loadbalancer_id=lb)["id"]
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"member": {"weight": 1}})):
        told = api.refusal(method, f"/pools/{other}/members/{member}", body)
        assert told == (404, f"Member {member} not found.")


def test_a_member_is_changed_and_its_nulls_reset(api: Api, pool: str) -> None:
    member = api.member(pool, weight=5, backup=True, monitor_port=1)
    path = f"/pools/{pool}/members/{member['id']}"
    assert api.put("member", path, weight=0)["weight"] == 0
    reset = api.put("member", path, weight=None, backup=None, monitor_port=None)
    assert (reset["weight"], reset["backup"], reset["monitor_port"]) == (1, False, None)
    told = api.refusal("PUT", path, {"member": {"address": "10.0.0.9"}})
    assert told == (400, "Unknown attribute for argument member_.member: address")


def test_a_batch_replaces_the_set_by_address_and_port(api: Api, pool: str) -> None:
    kept, changed, gone = (api.member(pool, f"10.0.0.{n}", weight=5)["id"] for n in (1, 2, 3))
    batch = [
        {"address": "10.0.0.1", "protocol_port": 80, "weight": 5},
        {"address": "10.0.0.2", "protocol_port": 80, "weight": 7},
        {"address": "10.0.0.4", "protocol_port": 80, "backup": True},
    ]
    result = api.request("PUT", f"/pools/{pool}/members", {"members": batch})
    assert (result.status_code, result.text) == (202, "")
    members = {m["id"]: m for m in api.get(f"/pools/{pool}/members")["members"]}
    (new,) = members.keys() - {kept, changed, gone}
    assert [(members[i]["weight"], members[i]["provisioning_status"]) for i in (kept, changed, gone, new)] == [
        (5, "PENDING_CREATE"),
        (7, "PENDING_CREATE"),
        (5, "PENDING_DELETE"),
        (1, "PENDING_CREATE"),
    ]


def test_a_batch_states_its_members_but_not_their_names(api: Api, pool: str) -> None:
    said: dict[str, Any] = {
        "weight": 5,
        "backup": True,
        "monitor_port": 81,
        "monitor_address": "10.0.0.9",
        "admin_state_up": False,
    }
    kept: dict[str, Any] = {"name": "one", "tags": ["a"]}
    member = api.member(pool, "10.0.0.1", **said, **kept)
    path = f"/pools/{pool}/members"
    for nulls in ({}, {"monitor_port": None, "weight": None}):
        api.put("member", f"{path}/{member['id']}", **said)
        batch = [{"address": "10.0.0.1", "protocol_port": 80} | nulls]
        assert api.request("PUT", path, {"members": batch}).status_code == 202
        after = api.get(f"{path}/{member['id']}")["member"]
        assert {name: after[name] for name in said} == {
            "weight": 1,
            "backup": False,
            "monitor_port": None,
            "monitor_address": None,
            "admin_state_up": True,
        }
        assert {name: after[name] for name in kept} == kept


def test_no_change_makes_a_member_checked_at_a_reserved_address(api: Api, pool: str) -> None:
    member, reserved = api.member(pool, "10.0.0.1"), {"monitor_address": "169.254.169.254"}
    path = f"/pools/{pool}/members"
    there = {"address": "10.0.0.1", "protocol_port": 80}
    assert api.refusal("PUT", path, {"members": [there | reserved]})[0] == 400
    assert api.refusal("PUT", f"{path}/{member['id']}", {"member": reserved})[0] == 400


def test_an_additive_batch_keeps_the_others(api: Api, pool: str) -> None:
    api.member(pool, "10.0.0.1")
    path = f"/pools/{pool}/members?additive_only=true"
    assert api.request("PUT", path, {"members": [{"address": "10.0.0.2", "protocol_port": 80}]}).status_code == 202
    statuses = [m["provisioning_status"] for m in api.get(f"/pools/{pool}/members")["members"]]
    assert statuses == ["PENDING_CREATE", "PENDING_CREATE"]
    assert api.refusal("PUT", f"/pools/{pool}/members?additive_only=perhaps", {"members": []})[0] == 400


@pytest.mark.parametrize(
    ("members", "gist"),
    [
        ([{"address": "10.0.0.1", "protocol_port": 80}] * 2, "A member is given twice"),
        ([{"address": "10.0.0.1"}], "0.protocol_port. Value: 'None'. Mandatory field missing."),
        ({"address": "10.0.0.1"}, "Invalid input for field/attribute members"),
        (None, 'Missing argument: "members_"'),
    ],
)
def test_a_batch_with_a_mistake_changes_nothing(api: Api, pool: str, members: Any, gist: str) -> None:
    member = api.member(pool, "10.9.9.9")
    told = api.refusal("PUT", f"/pools/{pool}/members", {"members": members})
    assert told[0] == 400
    assert gist in told[1]
    assert api.get(f"/pools/{pool}/members")["members"] == [member]


def test_a_batch_may_replace_members_at_the_quota(make_api: ApiFactory) -> None:
    api = make_api(quotas={"default_member_quota": "1"})
    pool = api.pool(loadbalancer_id=api.loadbalancer()["id"])["id"]
    api.member(pool, "10.0.0.1")
    path, other = f"/pools/{pool}/members", {"address": "10.0.0.2", "protocol_port": 80}
    assert api.refusal("PUT", f"{path}?additive_only=1", {"members": [other]})[0] == 403
    assert api.request("PUT", path, {"members": [other]}).status_code == 202


# -- Health monitors -------------------------------------------------------------------------------------------------


def test_an_http_monitor_is_filled_in_and_reset_to_that(api: Api, pool: str) -> None:
    monitor = api.monitor(pool, url_path="/health?x=1", http_version="1.1", domain_name="example.org")
    assert (monitor["http_method"], monitor["expected_codes"], monitor["max_retries_down"]) == ("GET", "200", 3)
    assert (monitor["http_version"], monitor["domain_name"]) == (1.1, "example.org")
    assert monitor["pools"] == [{"id": pool}]
    reset = api.put("healthmonitor", f"/healthmonitors/{monitor['id']}", url_path=None, domain_name=None)
    assert (reset["url_path"], reset["domain_name"]) == ("/", None)


def test_a_tcp_monitor_has_nothing_of_http(api: Api, pool: str) -> None:
    monitor = api.monitor(pool, type="TCP")
    assert [monitor[name] for name in ("http_method", "url_path", "expected_codes")] == [None, None, None]
    told = api.refusal("PUT", f"/healthmonitors/{monitor['id']}", {"healthmonitor": {"url_path": "/x"}})
    assert told == (400, "url_path is not a valid option for health monitors of type TCP")


@pytest.mark.parametrize(
    ("attributes", "status", "gist"),
    [
        ({"pool_id": NOWHERE}, 404, f"Pool {NOWHERE} not found."),
        ({"type": "ping"}, 400, "type. Value: 'ping'. Value should be one of: HTTP, TCP"),
        ({"type": "PING"}, 501, "option: type PING has no effect yet"),
        ({"delay": None}, 400, "delay. Value: 'None'. Mandatory field missing."),
        ({"delay": -1}, 400, "greater or equal to 0"),
        ({"max_retries": 11}, 400, "lower or equal to 10"),
        ({"expected_codes": "200\n"}, 400, "expected_codes"),
        ({"expected_codes": "200-"}, 400, "expected_codes"),
        ({"expected_codes": "299-200"}, 400, "a range from its lower end"),
        ({"delay": 2147484}, 400, "lower or equal to 2147483"),
        ({"timeout": 2147484}, 400, "lower or equal to 2147483"),
        ({"url_path": "x"}, 400, "begins with a slash"),
        ({"url_path": "/a b"}, 400, "url_path"),
        ({"url_path": "/\n"}, 400, "url_path"),
        ({"http_version": 2.0}, 400, "Value should be one of: 1.0, 1.1"),
        ({"domain_name": "a..b", "http_version": 1.1}, 400, "Value should be a DNS name"),
        ({"domain_name": "example.org"}, 400, "domain_name needs http_version 1.1"),
    ],
)
def test_a_monitor_that_cannot_be_is_refused(
    api: Api, pool: str, attributes: dict[str, Any], status: int, gist: str
) -> None:
    given = {"pool_id": pool, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2} | attributes
    told = refused(api, "healthmonitor", "/healthmonitors", **given)
    assert told[0] == status
    assert gist in told[1]


def test_a_monitor_that_is_not_http_keeps_what_octavia_keeps(api: Api, pool: str) -> None:
    monitor = api.monitor(pool, type="TCP", http_version=1.1, domain_name="example.org")
    assert (monitor["http_version"], monitor["domain_name"]) == (1.1, "example.org")


def test_delay_timeout_and_retries_cannot_be_reset(api: Api, pool: str) -> None:
    path = f"/healthmonitors/{api.monitor(pool)['id']}"
    for name in ("delay", "timeout", "max_retries"):
        told = api.refusal("PUT", path, {"healthmonitor": {name: None}})
        assert told == (400, f"Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing.")


def test_a_pool_has_one_monitor(api: Api, pool: str) -> None:
    api.monitor(pool)
    given = {"pool_id": pool, "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    assert refused(api, "healthmonitor", "/healthmonitors", **given)[0] == 409


def test_members_are_unmonitored_when_the_monitor_goes(api: Api, pool: str) -> None:
    monitor = api.monitor(pool)
    member = api.member(pool)
    assert member["operating_status"] == "OFFLINE"
    api.delete(f"/healthmonitors/{monitor['id']}")
    assert api.get(f"/pools/{pool}/members/{member['id']}")["member"]["operating_status"] == "NO_MONITOR"


def test_members_stay_monitored_when_an_earlier_monitor_is_deleted_again(api: Api, pool: str) -> None:
    earlier = api.monitor(pool)
    api.delete(f"/healthmonitors/{earlier['id']}")
    api.monitor(pool)
    member = api.member(pool)
    api.delete(f"/healthmonitors/{earlier['id']}")
    assert api.get(f"/pools/{pool}/members/{member['id']}")["member"]["operating_status"] == "OFFLINE"


def test_children_belong_to_the_project_of_their_load_balancer(api: Api) -> None:
    lb = api.loadbalancer(project_id="theirs", vip_subnet_id=SUBNET)["id"]
    listener = api.listener(lb, project_id="mine")
    pool = api.pool(listener_id=listener["id"], project_id="mine")
    children = (listener, pool, api.member(pool["id"], tenant_id="mine"), api.monitor(pool["id"]))
    assert {child["project_id"] for child in children} == {"theirs"}
