"""Whatever a client sends, it is told what is wrong with it: never a 500, never a lost connection."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from falcon.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.conftest import Api

from tavia.model.attributes import attributes
from tavia.model.resources import HealthMonitor, Listener, LoadBalancer, Member, Pool

MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            0,
            -1,
            1,
            2**31,
            2**63,
            2**64,
            10**400,
            1.5,
            1e308,
            True,
            False,
            None,
            "",
            "0",
            " 81 ",
            "true",
            "HTTP",
            "TCP",
        ),
        *("a" * 300, "\x00", "a\nb", "%[src]", "é", "\u202e", "10.0.0.1", "::1", "fe80::1%x\n", "10.0.0.0/8"),
        *("200\n", "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33", "ROUND_ROBIN", [], {}, [[]], [None], {"": None}),
    ]
)
NAMES = sorted({a.name for r in (LoadBalancer, Listener, Pool, Member, HealthMonitor) for a in attributes(r)})
NESTED = ["listeners", "pools", "members", "healthmonitor", "default_pool", "l7policies", "tenant_id", "listener_id"]


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*NAMES, *NESTED, "cookie_name", "type", "x"]), values, max_size=6)


JSON = st.recursive(
    ODD | st.text(max_size=5), lambda deeper: st.lists(deeper, max_size=3) | objects(deeper), max_leaves=8
)


@pytest.fixture
def paths(api: Api) -> dict[str, str]:
    """Where each root word can be sent, with objects that are there."""
    lb = api.loadbalancer()["id"]
    listener = api.listener(lb, insert_headers={"X-Forwarded-For": "true"})["id"]
    pool = api.pool(listener_id=listener, session_persistence={"type": "APP_COOKIE", "cookie_name": "c"})["id"]
    member, monitor = api.member(pool)["id"], api.monitor(pool)["id"]
    api.parents = {"loadbalancer_id": lb, "pool_id": pool, "listener_id": listener}  # type: ignore[attr-defined]
    return {
        "loadbalancer": f"/loadbalancers/{lb}",
        "listener": f"/listeners/{listener}",
        "pool": f"/pools/{pool}",
        "member": f"/pools/{pool}/members/{member}",
        "healthmonitor": f"/healthmonitors/{monitor}",
    }


def assert_told(result: Result) -> None:
    assert result.status_code < 500 or result.status_code == 501, result.text
    if result.status_code >= 400:
        assert result.json.get("faultstring") or result.json.get("description")


GOOD: dict[str, dict[str, Any]] = {
    "loadbalancer": {"vip_subnet_id": "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33"},
    "listener": {"protocol": "HTTP", "protocol_port": 99},
    "pool": {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
    "member": {"address": "10.0.0.77", "protocol_port": 9},
    "healthmonitor": {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1},
}


@MANY
@given(root=st.sampled_from(sorted(GOOD)), method=st.sampled_from(["POST", "PUT"]), odd=objects(JSON), data=st.data())
def test_odd_attributes_are_taken_or_refused_clearly(
    api: Api, paths: dict[str, str], root: str, method: str, odd: dict[str, Any], data: st.DataObject
) -> None:
    parents: dict[str, str] = api.parents  # type: ignore[attr-defined]
    wanted = {"listener": "loadbalancer_id", "pool": "loadbalancer_id", "healthmonitor": "pool_id"}.get(root)
    good = GOOD[root] | ({wanted: parents[wanted]} if wanted else {}) if method == "POST" else {}
    known = st.dictionaries(st.sampled_from(sorted(good)), JSON, max_size=1) if good else st.just({})
    path = paths[root] if method == "PUT" else paths[root].rpartition("/")[0]
    assert_told(api.request(method, path, {root: good | data.draw(known) | odd}))
    for shown in paths.values():
        assert api.request("GET", shown).status_code == 200


@MANY
@given(body=JSON)
def test_odd_documents_are_refused_clearly(api: Api, paths: dict[str, str], body: Any) -> None:
    pool = paths["member"].rpartition("/")[0]
    for method, path in (("POST", "/loadbalancers"), ("PUT", paths["pool"]), ("PUT", pool)):
        assert_told(api.request(method, path, body))
        assert_told(api.request(method, path, {"members": body}))


@MANY
@given(raw=st.binary(max_size=60) | st.sampled_from([b"[" * 90000, b"1" * 9000, b'{"pool":' * 20000, b"\xff\xfe"]))
def test_bytes_that_are_no_json_are_refused_clearly(api: Api, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    result = api.client.simulate_post("/v2/lbaas/pools", host="127.0.0.1", body=raw, headers=headers)
    assert 400 <= result.status_code < 500


PAGING = ["limit", "marker", "sort", "sort_key", "sort_dir", "fields", "page_reverse", "tags", "not-tags-any", "x", ""]
PARAMETERS = st.sampled_from([*NAMES, *PAGING])
VALUES = st.text(max_size=8) | st.sampled_from(
    ["9" * 40, "-1", "0", "nan", "inf", "true", "name:desc", "created_at:asc,id", ",", ":", "\x00", "2026-01-01"]
)


@MANY
@given(query=st.lists(st.tuples(PARAMETERS, VALUES), max_size=5))
def test_odd_queries_are_taken_or_refused_clearly(
    api: Api, paths: dict[str, str], query: list[tuple[str, str]]
) -> None:
    for path in (*{p.rpartition("/")[0] for p in paths.values()}, "/v2/octavia/amphorae", paths["pool"]):
        assert_told(api.request("GET", path, query_string=urlencode(query)))


@MANY
@given(part=st.text(min_size=1, max_size=12))
def test_odd_paths_are_not_found(api: Api, part: str) -> None:
    for path in (f"/loadbalancers/{part}", f"/pools/{part}/members/{part}", f"/v2/octavia/amphorae/{part}/stats"):
        result = api.request("GET", path.replace("?", "").replace("#", ""))
        assert result.status_code < 500
