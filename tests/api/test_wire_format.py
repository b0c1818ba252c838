"""Discovery, error shapes and the rest of the wire format that all resources share (api-surface)."""

from __future__ import annotations

import json

import pytest
from oslo_middleware import http_proxy_to_wsgi
from tests.api.conftest import SUBNET, Api, ApiFactory

NOWHERE = "7f0a2c6e-7a7c-4f8f-9d67-0d4f2b9c1a11"


def test_the_versions_document_lists_every_minor_version_and_the_last_is_current(api: Api) -> None:
    versions = api.get("/")["versions"]
    assert [v["id"] for v in versions] == [f"v2.{minor}" for minor in range(31)]
    assert [v["id"] for v in versions if v["status"] == "CURRENT"] == ["v2.30"]
    assert versions[7]["updated"] == "2018-01-25T12:00:00Z"
    assert versions[0]["links"] == [{"href": "http://127.0.0.1/v2", "rel": "self"}]


@pytest.mark.parametrize("path", ["/v2", "/v2.0", "/v2/lbaas", "/v2.0/octavia"])
def test_the_roots_answer_with_the_name_of_the_api(api: Api, path: str) -> None:
    assert api.get(path) == "v2"


@pytest.mark.parametrize("prefix", ["/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0"])
@pytest.mark.parametrize("ending", ["", "/", ".json"])
def test_every_prefix_and_ending_leads_to_the_same_resources(api: Api, prefix: str, ending: str) -> None:
    assert api.get(f"{prefix}/loadbalancers{ending}") == {"loadbalancers": [], "loadbalancers_links": []}


def test_an_unknown_path_is_404_in_the_shape_of_the_router(api: Api) -> None:
    result = api.request("GET", "/nothing")
    assert result.status_code == 404
    assert result.json.keys() == {"code", "title", "description"}
    assert result.json["code"] == 404
    assert result.json["title"] == "Not Found"


def test_an_unknown_object_is_404_in_the_shape_of_the_controllers(api: Api) -> None:
    result = api.request("GET", f"/loadbalancers/{NOWHERE}")
    assert result.status_code == 404
    fault = f"Load Balancer {NOWHERE} not found."
    assert result.json == {"faultcode": "Client", "faultstring": fault, "debuginfo": None}


def test_a_missing_parent_in_the_path_is_404_with_the_title_bad_request(api: Api) -> None:
    result = api.request("GET", f"/pools/{NOWHERE}/members")
    assert result.status_code == 404
    assert result.json == {"code": 404, "title": "Bad Request", "description": f"Pool {NOWHERE} not found."}


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
def test_collections_take_no_head_and_no_patch(api: Api, method: str) -> None:
    result = api.request(method, "/loadbalancers")
    assert result.status_code == 405
    assert method != "HEAD" or result.text == ""


def test_options_is_answered_with_nothing(api: Api) -> None:
    result = api.request("OPTIONS", "/loadbalancers")
    assert (result.status_code, result.text) == (200, "")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", ""])
def test_an_accept_that_allows_json_is_served(api: Api, accept: str) -> None:
    assert api.request("GET", "/pools", headers={"Accept": accept}).status_code == 200


def test_an_accept_without_json_is_406(api: Api) -> None:
    assert api.request("GET", "/pools", headers={"Accept": "text/html"}).status_code == 406


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_a_body_of_another_type_is_415(api: Api, content_type: str) -> None:
    body = json.dumps({"loadbalancer": {"vip_subnet_id": SUBNET}})
    result = api.client.simulate_post(
        "/v2/lbaas/loadbalancers", host="127.0.0.1", body=body, headers={"Content-Type": content_type}
    )
    assert result.status_code == 415
    assert api.get("/loadbalancers")["loadbalancers"] == []


def test_a_body_too_large_is_413(api: Api) -> None:
    body = {"loadbalancer": {"name": "x" * 120_000}}
    assert api.refusal("POST", "/loadbalancers", body) == (413, "The request's body is larger than 114688 bytes.")


def test_the_largest_body_is_an_option(make_api: ApiFactory) -> None:
    api = make_api(oslo_middleware={"max_request_body_size": 10})
    assert api.refusal("POST", "/pools", {"pool": {}})[0] == 413


def test_an_error_of_a_layer_around_the_app_has_the_apis_form(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(http_proxy_to_wsgi.HTTPProxyToWSGI, "process_request", broken)
    result = api.request("GET", "/pools")
    assert (result.status_code, result.json["faultcode"]) == (500, "Server")
    assert result.headers["x-openstack-request-id"]


def test_every_answer_has_a_request_id(api: Api) -> None:
    for path in ("/", "/loadbalancers", "/nothing", f"/pools/{NOWHERE}"):
        assert api.request("GET", path).headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", 'Missing argument: "load_balancer"'),
        (b"null", 'Missing argument: "load_balancer"'),
        (b"{}", 'Missing argument: "load_balancer"'),
        (b'{"loadbalancer": null}', 'Missing argument: "load_balancer"'),
        (b"[]", "Request is not in valid JSON format: the body must be an object"),
        (b"{", "Request is not in valid JSON format"),
        (b'{"loadbalancer": NaN}', "Request is not in valid JSON format"),
        (b"[" * 5000, "Request is not in valid JSON format"),
        (b'{"loadbalancer": {"name": "\\ud800"}}', "Request is not in valid JSON format"),
        (b'{"loadbalancer": {}, "pool": {}}', 'Unknown argument: "pool"'),
        (b'{"loadbalancer": {"colour": 1}}', "Unknown attribute for argument load_balancer.loadbalancer: colour"),
        (b'{"loadbalancer": {"id": "x"}}', "Unknown attribute for argument load_balancer.loadbalancer: id"),
        (
            b'{"loadbalancer": {"name": 5}}',
            "Invalid input for field/attribute name. Value: '5'. Value should be string",
        ),
        (
            b'{"loadbalancer": {"vip_subnet_id": "x"}}',
            "Invalid input for field/attribute vip_subnet_id. Value: 'x'. Value should be UUID format",
        ),
        (
            b'{"loadbalancer": {"vip_address": "fe80::1%eth0"}}',
            "Invalid input for field/attribute vip_address. Value: 'fe80::1%eth0'. Value should be IPv4 or IPv6 format",
        ),
        (
            b'{"loadbalancer": {"admin_state_up": "perhaps"}}',
            "Invalid input for field/attribute admin_state_up. Value: 'perhaps'. Value is not an unambiguous boolean",
        ),
    ],
)
def test_a_malformed_body_is_told_what_is_wrong(api: Api, raw: bytes, fault: str) -> None:
    result = api.client.simulate_post(
        "/v2/lbaas/loadbalancers", host="127.0.0.1", body=raw, headers={"Content-Type": "application/json"}
    )
    assert result.status_code == 400
    assert result.json == {"faultcode": "Client", "faultstring": fault, "debuginfo": None}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9876", "127.9.9.9", "[::1]:9876", "LOCALHOST"])
def test_requests_to_a_loopback_name_are_served(api: Api, host: str) -> None:
    assert api.client.simulate_get("/v2", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"])
def test_a_name_that_a_foreign_page_can_point_at_us_is_refused(api: Api, host: str) -> None:
    assert api.client.simulate_get("/v2/lbaas/loadbalancers", headers={"Host": host}).status_code == 403


def test_the_project_comes_from_its_header_or_is_the_default(api: Api) -> None:
    assert api.loadbalancer()["project_id"] == "0" * 32
    body = {"loadbalancer": {"vip_subnet_id": SUBNET}}
    result = api.request("POST", "/loadbalancers", body, headers={"X-Project-Id": "mine"})
    assert (result.json["loadbalancer"]["project_id"], result.json["loadbalancer"]["tenant_id"]) == ("mine", "mine")
    assert api.loadbalancer(project_id="theirs")["project_id"] == "theirs"
    assert api.loadbalancer(tenant_id="theirs")["project_id"] == "theirs"
    assert api.request("GET", "/pools", headers={"X-Project-Id": "p" * 37}).status_code == 400


def test_the_health_check_is_off_unless_enabled(api: Api) -> None:
    assert api.request("GET", "/healthcheck").status_code == 404


def test_the_health_check_answers_json_or_nothing_and_refuses_other_methods(make_api: ApiFactory) -> None:
    api = make_api(api_settings={"healthcheck_enabled": "true"})
    as_json = api.request("GET", "/healthcheck", headers={"Accept": "application/json"})
    assert (as_json.status_code, as_json.json) == (200, {"detailed": False, "reasons": []})
    as_text = api.request("GET", "/healthcheck", headers={"Accept": "text/plain"})
    assert (as_text.status_code, as_text.text) == (204, "")
    assert api.request("HEAD", "/healthcheck").status_code == 204
    assert api.request("POST", "/healthcheck").status_code == 405


def test_links_begin_with_the_configured_base(make_api: ApiFactory) -> None:
    api = make_api(api_settings={"api_base_uri": "https://lb.example.org/load-balancer/"})
    assert api.get("/")["versions"][0]["links"][0]["href"] == "https://lb.example.org/load-balancer/v2"
    api.loadbalancer()
    (link,) = api.get("/loadbalancers?limit=1")["loadbalancers_links"]
    assert link["href"].startswith("https://lb.example.org/load-balancer/v2/lbaas/loadbalancers?limit=1&marker=")


@pytest.mark.parametrize(
    ("believed", "base"), [("true", "https://lb.example.org/load-balancer"), ("false", "http://127.0.0.1")]
)
def test_links_lead_through_the_proxy_before_the_api_where_that_is_to_be_believed(
    make_api: ApiFactory, believed: str, base: str
) -> None:
    api = make_api(
        oslo_middleware={"enable_proxy_headers_parsing": believed}, tavia={"allowed_hosts": "lb.example.org"}
    )
    said_by_the_proxy = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "lb.example.org",
        "X-Forwarded-Prefix": "/load-balancer",
    }
    (version, *_) = api.get("/", headers=said_by_the_proxy)["versions"]
    assert version["links"][0]["href"] == f"{base}/v2"
    api.loadbalancer()
    (link,) = api.get("/loadbalancers?limit=1", headers=said_by_the_proxy)["loadbalancers_links"]
    assert link["href"].startswith(f"{base}/v2/lbaas/loadbalancers?limit=1&marker=")


def test_the_openapi_document_describes_every_resource_with_its_limits(api: Api) -> None:
    document = api.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    member = document["paths"]["/v2/lbaas/pools/{pool_id}/members"]["post"]["requestBody"]["content"]
    weight = member["application/json"]["schema"]["properties"]["member"]["properties"]["weight"]
    assert (weight["minimum"], weight["maximum"]) == (0, 256)
    assert {"get", "put", "delete"} <= document["paths"]["/v2/lbaas/loadbalancers/{loadbalancer_id}"].keys()
    assert "/v2/octavia/amphorae/{amphora_id}/failover" in document["paths"]


def test_providers_are_listed_with_their_descriptions(api: Api) -> None:
    providers = api.get("/providers")["providers"]
    assert [p["name"] for p in providers] == ["amphora", "octavia"]
    assert all(p["description"] for p in providers)
    assert api.get("/providers?fields=name")["providers"] == [{"name": "amphora"}, {"name": "octavia"}]


@pytest.mark.parametrize("path", ["/flavors", "/l7policies", "/quotas", "/availabilityzones"])
def test_resources_of_later_releases_are_404(api: Api, path: str) -> None:
    assert api.request("GET", path).status_code == 404
