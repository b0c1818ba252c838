"""Lists: filters, fields, sorting, pages, tags (api-surface, "Lists"), and what they cost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.api.conftest import Api, ApiFactory


@pytest.fixture
def names(api: Api) -> dict[str, str]:
    """Ten load balancers, by name: 0 to 9 in the order of their creation."""
    return {
        str(n): api.loadbalancer(
            name=str(n),
            description="even" if n % 2 == 0 else "odd",
            admin_state_up=n < 5,
            vip_address=f"198.18.0.{20 - n}",
            tags=[f"t{n}", "all"] if n else [],
        )["id"]
        for n in range(10)
    }


def listed(api: Api, query: str, attribute: str = "name") -> list[Any]:
    return [lb[attribute] for lb in api.get(f"/loadbalancers?{query}")["loadbalancers"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "0123456789"),
        ("name=3", "3"),
        ("name=nobody", ""),
        ("description=even", "02468"),
        ("description=even&admin_state_up=false", "68"),
        ("admin_state_up=True", "01234"),
        ("vip_address=198.18.0.13", "7"),
        ("provisioning_status=PENDING_CREATE", "0123456789"),
        ("provisioning_status=ACTIVE", ""),
        ("provider=amphora&name=1", "1"),
        ("project_id=00000000000000000000000000000000&name=1", "1"),
        ("project_id=other", ""),
        ("tags=all", "123456789"),
        ("tags=all,t3", "3"),
        ("tags=all&tags=t3", "3"),
        ("tags-any=t1,t2", "12"),
        ("not-tags=all,t3", "012456789"),
        ("not-tags-any=t1,t2,t3", "0456789"),
        ("tags=all&not-tags-any=t1,t2,t3,t4,t5", "6789"),
        ("sort=name:desc", "9876543210"),
        ("sort=description:asc,name:desc", "8642097531"),
        ("sort_key=admin_state_up,name&sort_dir=desc,desc", "4321098765"),
        ("sort_key=vip_address", "9876543210"),
        ("limit=3", "012"),
        ("limit=0", "0123456789"),
        ("limit=-1", "0123456789"),
        ("limit=infinite", "0123456789"),
    ],
)
def test_a_list_holds_what_was_asked_for_in_the_order_asked_for(
    api: Api, names: dict[str, str], query: str, found: str
) -> None:
    assert "".join(listed(api, query)) == found


def test_times_filter_by_the_second_that_is_shown(api: Api, names: dict[str, str]) -> None:
    shown = listed(api, "name=0", "created_at")[0]
    assert "0" in listed(api, f"created_at={shown}")
    assert listed(api, "created_at=2001-01-01T00:00:00") == []


@pytest.mark.parametrize(
    "query",
    [
        "colour=red",
        "listeners=x",
        "session_persistence=x",
        "tenant_id=x",
        "name=1&name=2",
        "marker=a&marker=b",
        "admin_state_up=perhaps",
        "created_at=yesterday",
        "created_at=9999-12-31T23:59:59",
        "tags_any=x",
        "sort=colour",
        "sort=name:sideways",
        "sort=tags",
        "sort_key=listeners",
        "limit=many",
        "limit=1.5",
        "limit=99999999999999999999999",
        "marker=nobody",
        "page_reverse=perhaps&marker=x",
        "generation=1",
        "fault=x",
    ],
)
def test_a_list_that_makes_no_sense_is_400(api: Api, names: dict[str, str], query: str) -> None:
    assert api.request("GET", f"/loadbalancers?{query}").status_code == 400


def test_pools_are_not_filtered_by_listener_but_by_load_balancer_and_monitor(api: Api) -> None:
    lb, other = api.loadbalancer()["id"], api.loadbalancer()["id"]
    pool = api.pool(loadbalancer_id=lb)["id"]
    api.pool(loadbalancer_id=other)
    monitor = api.monitor(pool)["id"]
    assert api.refusal("GET", "/pools?listener_id=x")[0] == 400
    for query in (f"loadbalancer_id={lb}", f"load_balancer_id={lb}", f"healthmonitor_id={monitor}"):
        assert [p["id"] for p in api.get(f"/pools?{query}")["pools"]] == [pool]
    assert [h["id"] for h in api.get(f"/healthmonitors?max_retries=2&pool_id={pool}")["healthmonitors"]] == [monitor]


def test_fields_choose_attributes_and_unknown_ones_are_left_out(api: Api, names: dict[str, str]) -> None:
    assert api.get("/loadbalancers?fields=name&fields=id&limit=1")["loadbalancers"] == [{"id": names["0"], "name": "0"}]
    assert api.get("/loadbalancers?fields=name,id&limit=1")["loadbalancers"] == [{}]
    assert api.get(f"/loadbalancers/{names['1']}?fields=name") == {"loadbalancer": {"name": "1"}}


def follow(api: Api, query: str, rel: str) -> list[str]:
    """The pages from a query on, each as its names, by their links."""
    pages = []
    path = f"/v2/lbaas/loadbalancers?{query}"
    while path:
        body = api.get(path)
        pages.append("".join(lb["name"] for lb in body["loadbalancers"]))
        links = {link["rel"]: urlsplit(link["href"]) for link in body["loadbalancers_links"]}
        path = f"{links[rel].path}?{links[rel].query}" if rel in links and pages[-1] else ""
    return pages


SORTINGS = ["", "&sort=name:desc", "&sort=updated_at:desc", "&sort_key=vip_address&sort_dir=desc", "&sort=description"]


@pytest.mark.parametrize("sorting", SORTINGS)
@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_pages_forwards_and_backwards_are_the_whole_list(
    api: Api, names: dict[str, str], size: int, sorting: str
) -> None:
    api.put("loadbalancer", f"/loadbalancers/{names['4']}", name="4")
    whole = "".join(listed(api, sorting))
    forwards = follow(api, f"limit={size}{sorting}", "next")
    assert "".join(forwards) == whole
    backwards = follow(api, f"limit={size}{sorting}&page_reverse=true", "previous")
    assert "".join(reversed(backwards)) == whole


def test_the_previous_page_is_the_one_before(api: Api, names: dict[str, str]) -> None:
    for page, following in pairwise(("012", "345", "678", "9")):
        body = api.get(f"/loadbalancers?limit=3&marker={names[page[-1]]}")
        assert "".join(lb["name"] for lb in body["loadbalancers"]) == following
        previous = next(link["href"] for link in body["loadbalancers_links"] if link["rel"] == "previous")
        path = urlsplit(previous)
        assert "".join(lb["name"] for lb in api.get(f"{path.path}?{path.query}")["loadbalancers"]) == page


def test_links_keep_every_parameter(api: Api, names: dict[str, str]) -> None:
    query = "limit=2&description=even&fields=name&fields=id&sort_key=name&sort_dir=desc&tags=all"
    (link,) = api.get(f"/loadbalancers?{query}")["loadbalancers_links"]
    assert link["rel"] == "next"
    kept = parse_qs(urlsplit(link["href"]).query)
    assert kept == parse_qs(query) | {"marker": [names["6"]]}


def test_a_page_stays_right_while_rows_come_and_go(api: Api, names: dict[str, str]) -> None:
    api.delete(f"/loadbalancers/{names['1']}")
    api.finish_delete(names["1"])
    api.loadbalancer(name="new")
    assert "".join(listed(api, f"limit=3&marker={names['2']}")) == "345"


def test_the_configured_page_size_is_default_and_cap(make_api: ApiFactory) -> None:
    api = make_api(api_settings={"pagination_max_limit": "2"})
    for number in range(3):
        api.loadbalancer(name=str(number))
    assert [len(listed(api, query)) for query in ("", "limit=1", "limit=100", "limit=0")] == [2, 1, 2, 3]


def test_lists_can_be_told_to_ignore_what_clients_ask(make_api: ApiFactory) -> None:
    names = ("pagination", "sorting", "filtering", "field_selection")
    api = make_api(api_settings={f"allow_{name}": "false" for name in names})
    for number in range(3):
        api.loadbalancer(name=str(number))
    assert listed(api, "limit=1&sort=name:desc&name=2&fields=id") == ["0", "1", "2"]


@pytest.mark.parametrize("path", ["/loadbalancers", "/listeners", "/pools", "/healthmonitors", "/pools/{pool}/members"])
def test_a_list_costs_the_same_statements_however_long_it_is(api: Api, statements: list[str], path: str) -> None:
    def fill(port: int) -> str:
        lb = api.loadbalancer()["id"]
        pool: str = api.pool(listener_id=api.listener(lb, port)["id"])["id"]
        api.member(pool, "10.0.0.1")
        api.member(pool, "10.0.0.2")
        api.monitor(pool)
        return pool

    def cost() -> int:
        statements.clear()
        api.get(path.format(pool=pool))
        return len(statements)

    pool = fill(1)
    first = cost()
    for port in range(2, 12):
        fill(port)
        api.member(pool, f"10.0.1.{port}")
    assert cost() == first <= 6
