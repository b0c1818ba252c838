"""Who may do what: every rule for every kind of caller, by the real policy engine and through the real application.

Only what Keystone would say of a token is made up. With a real Keystone: ``tests/cluster/identity``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon
import pytest
from falcon.testing import Result, TestClient
from keystonemiddleware.auth_token import InvalidToken
from oslo_context.context import RequestContext
from tests.api.conftest import SUBNET, Api, ApiFactory

from tavia.api import authentication, errors, rbac
from tavia.api.access import Policy
from tavia.api.app import rules_of
from tavia.api.changes import Changes
from tavia.api.gate import Gate
from tavia.api.handlers.common import Backend
from tavia.api.routes import Route, routes
from tavia.api.vips import Vips
from tavia.model.seams import SeamError

MINE, ANOTHER = "11111111111111111111111111111111", "22222222222222222222222222222222"

CALLERS = {
    "reader": ("reader", MINE),
    "member": ("member,reader", MINE),
    "stranger": ("member,reader", ANOTHER),
    "observer": ("load-balancer_observer", MINE),
    "strange-observer": ("load-balancer_observer", ANOTHER),
    "global-observer": ("load-balancer_global_observer", ANOTHER),
    "lb-member": ("load-balancer_member", MINE),
    "strange-lb-member": ("load-balancer_member", ANOTHER),
    "quota-admin": ("load-balancer_quota_admin", ANOTHER),
    "lb-admin": ("load-balancer_admin", ANOTHER),
    "admin": ("admin", ANOTHER),
    "service": ("service", ANOTHER),
    "nobody": ("guest", MINE),
}
"""Roles and project of each. The object that they act on is in the project MINE."""

ALLOWED = {
    "read": "reader member admin | observer global-observer lb-member lb-admin",
    "read-global": "admin | global-observer lb-admin",
    "write": "member admin | lb-member lb-admin",
    "read-quota": "reader member admin | observer global-observer lb-member quota-admin lb-admin",
    "read-quota-global": "admin | global-observer quota-admin lb-admin",
    "write-quota": "admin | quota-admin lb-admin",
    "admin": "admin | lb-admin",
    "list-members": "reader member admin service | observer global-observer lb-member lb-admin",
}
"""Who has which access; after the bar, who has it while the older roles count too."""

RULES = {
    "read": """flavor:get_all flavor:get_one availability-zone:get_all availability-zone:get_one provider:get_all
        loadbalancer:get_all loadbalancer:get_one loadbalancer:get_stats loadbalancer:get_status
        listener:get_all listener:get_one listener:get_stats pool:get_all pool:get_one member:get_one
        healthmonitor:get_all healthmonitor:get_one l7policy:get_all l7policy:get_one l7rule:get_all l7rule:get_one""",
    "read-global": """loadbalancer:get_all-global listener:get_all-global pool:get_all-global
        healthmonitor:get_all-global l7policy:get_all-global""",
    "write": """loadbalancer:post loadbalancer:post:vip_sg_ids loadbalancer:put loadbalancer:put:vip_sg_ids
        loadbalancer:delete listener:post listener:put listener:delete pool:post pool:put pool:delete
        member:post member:put member:delete healthmonitor:post healthmonitor:put healthmonitor:delete
        l7policy:post l7policy:put l7policy:delete l7rule:post l7rule:put l7rule:delete""",
    "read-quota": "quota:get_all quota:get_one quota:get_defaults",
    "read-quota-global": "quota:get_all-global",
    "write-quota": "quota:put quota:delete",
    "admin": """flavor:post flavor:put flavor:delete flavor-profile:get_all flavor-profile:get_one flavor-profile:post
        flavor-profile:put flavor-profile:delete availability-zone:post availability-zone:put availability-zone:delete
        availability-zone-profile:get_all availability-zone-profile:get_one availability-zone-profile:post
        availability-zone-profile:put availability-zone-profile:delete loadbalancer:put_failover amphora:get_all
        amphora:get_one amphora:delete amphora:put_config amphora:put_failover amphora:get_stats
        provider-flavor:get_all provider-availability-zone:get_all""",
    "list-members": "member:get_all",
}
"""The access that each rule takes, by Octavia's documentation of its policies."""


def allowed(access: str, older_roles: bool) -> set[str]:
    defaults, older = ALLOWED[access].split("|") if "|" in ALLOWED[access] else (ALLOWED[access], "")
    return {*defaults.split(), *(older.split() if older_roles else ())}


@pytest.fixture(params=[False, True], ids=["default roles", "older roles too"])
def older_roles(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_rules_are_all_that_octavia_has() -> None:
    names = {rule.name for rule in rbac.list_rules() if rule.name.startswith(rbac.API)}
    assert names == {f"{rbac.API}{name}" for names in RULES.values() for name in names.split()}


def test_every_rule_allows_whom_octavias_allows(make_api: ApiFactory, older_roles: bool) -> None:
    policy = Policy(make_api(oslo_policy={"enforce_new_defaults": not older_roles}).conf)
    for access, names in RULES.items():
        for name in names.split():
            may = {
                caller
                for caller, (roles, project_id) in CALLERS.items()
                if policy.allows(
                    f"{rbac.API}{name}", MINE, RequestContext(project_id=project_id, roles=roles.split(","))
                )
            }
            assert may == allowed(access, older_roles), name


def test_without_a_project_only_rules_without_one_allow(make_api: ApiFactory) -> None:
    policy = Policy(make_api().conf)
    rule = f"{rbac.API}flavor:get_all"
    assert not policy.allows(rule, None, RequestContext(roles=["member", "reader"], system_scope="all"))
    assert policy.allows(rule, None, RequestContext(roles=["admin"], system_scope="all"))


@dataclass
class Guarded:
    """The API with Keystone's part made up: a token is ``roles@project``."""

    api: Api

    def request(self, caller: str, method: str, path: str, body: Any = None) -> Result:
        roles, project_id = CALLERS[caller]
        headers = {"X-Auth-Token": f"{roles}@{project_id}"}
        return self.api.request(method, path, body, headers=headers)

    def made(self, path: str, root: str, **attributes: Any) -> str:
        result = self.request("member", "POST", path, {root: attributes})
        assert result.status_code == 201, result.text
        return str(result.json[root]["id"])


@pytest.fixture
def keystone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_token(_self: object, token: str, *_args: object, **_more: object) -> Any:
        roles, _, project_id = token.partition("@")
        if not project_id:
            raise InvalidToken
        domain = {"id": "default", "name": "Default"}
        return {
            "token": {
                "methods": ["password"],
                "expires_at": "2999-01-01T00:00:00.000000Z",
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "user": {"id": "u", "name": "user", "domain": domain},
                "project": {"id": project_id, "name": "project", "domain": domain},
                "roles": [{"id": role, "name": role} for role in roles.split(",")],
            }
        }

    monkeypatch.setattr(authentication._TokenCheck, "fetch_token", fetch_token)


@pytest.fixture
def guard(make_api: ApiFactory, keystone: None) -> Any:
    def make(**options: Any) -> Guarded:
        return Guarded(make_api(api_settings={"auth_strategy": "keystone"}, **options))

    return make


def requests_of(guarded: Guarded) -> dict[str, tuple[str, str, Any]]:
    """A request for each route, by its rule; deletions last, children first."""
    lb = guarded.made("/loadbalancers", "loadbalancer", vip_subnet_id=SUBNET)
    listener = guarded.made("/listeners", "listener", loadbalancer_id=lb, protocol="HTTP", protocol_port=80)
    pool_body = {"loadbalancer_id": lb, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    pool, bare = (guarded.made("/pools", "pool", **pool_body) for _ in range(2))
    members = f"/pools/{pool}/members"
    member = guarded.made(members, "member", address="10.0.0.1", protocol_port=80)
    probe = {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 2}
    monitor = guarded.made("/healthmonitors", "healthmonitor", pool_id=pool, **probe)
    amphora = f"/v2/octavia/amphorae/{uuid.uuid4()}"
    new_lb = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": MINE}}
    new_listener = {"listener": {"loadbalancer_id": lb, "protocol": "HTTP", "protocol_port": 81}}
    return {
        "loadbalancer:get_all": ("GET", f"/loadbalancers?project_id={MINE}", None),
        "loadbalancer:post": ("POST", "/loadbalancers", new_lb),
        "loadbalancer:get_one": ("GET", f"/loadbalancers/{lb}", None),
        "loadbalancer:get_stats": ("GET", f"/loadbalancers/{lb}/stats", None),
        "loadbalancer:get_status": ("GET", f"/loadbalancers/{lb}/status", None),
        "loadbalancer:put": ("PUT", f"/loadbalancers/{lb}", {"loadbalancer": {"name": "n"}}),
        "loadbalancer:put_failover": ("PUT", f"/loadbalancers/{lb}/failover", None),
        "listener:get_all": ("GET", f"/listeners?project_id={MINE}", None),
        "listener:post": ("POST", "/listeners", new_listener),
        "listener:get_one": ("GET", f"/listeners/{listener}", None),
        "listener:get_stats": ("GET", f"/listeners/{listener}/stats", None),
        "listener:put": ("PUT", f"/listeners/{listener}", {"listener": {"name": "n"}}),
        "pool:get_all": ("GET", f"/pools?project_id={MINE}", None),
        "pool:post": ("POST", "/pools", {"pool": pool_body}),
        "pool:get_one": ("GET", f"/pools/{pool}", None),
        "pool:put": ("PUT", f"/pools/{pool}", {"pool": {"name": "n"}}),
        "member:get_all": ("GET", members, None),
        "member:post": ("POST", members, {"member": {"address": "10.0.0.2", "protocol_port": 80}}),
        "member:get_one": ("GET", f"{members}/{member}", None),
        "member:put": ("PUT", f"{members}/{member}", {"member": {"weight": 7}}),
        "healthmonitor:get_all": ("GET", f"/healthmonitors?project_id={MINE}", None),
        "healthmonitor:post": ("POST", "/healthmonitors", {"healthmonitor": {"pool_id": bare, **probe}}),
        "healthmonitor:get_one": ("GET", f"/healthmonitors/{monitor}", None),
        "healthmonitor:put": ("PUT", f"/healthmonitors/{monitor}", {"healthmonitor": {"delay": 6}}),
        "amphora:get_all": ("GET", "/v2/octavia/amphorae", None),
        "amphora:get_one": ("GET", amphora, None),
        "amphora:get_stats": ("GET", f"{amphora}/stats", None),
        "amphora:put_config": ("PUT", f"{amphora}/config", None),
        "amphora:put_failover": ("PUT", f"{amphora}/failover", None),
        "amphora:delete": ("DELETE", amphora, None),
        "healthmonitor:delete": ("DELETE", f"/healthmonitors/{monitor}", None),
        "member:delete": ("DELETE", f"{members}/{member}", None),
        "pool:delete": ("DELETE", f"/pools/{pool}", None),
        "listener:delete": ("DELETE", f"/listeners/{listener}", None),
        "loadbalancer:delete": ("DELETE", f"/loadbalancers/{lb}?cascade=true", None),
    }


@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_lets_pass_whom_its_rule_allows_and_no_one_else(guard: Any, caller: str) -> None:
    guarded = guard()
    access = {name: access for access, names in RULES.items() for name in names.split()}
    asked = requests_of(guarded)
    for rule, (method, path, body) in asked.items():
        result = guarded.request(caller, method, path, body)
        if caller in allowed(access[rule], older_roles=False):
            assert result.status_code in (
                (404,) if rule.startswith("amphora:") and "all" not in rule else (200, 201, 202, 204)
            ), result.text
        else:
            assert (result.status_code, result.json["faultcode"]) == (403, "Client"), f"{rule} {result.text}"
    assert set(asked) | {"provider:get_all"} == {rule.removeprefix(rbac.API) for rule in rules(guarded.api) if rule}


def rules(api: Api, *more: Route) -> set[str | None]:
    table = routes(
        Backend(api.conf, api.database, Changes(api.conf, api.database), Vips(api.conf, api.cloud.networking, "d"))
    )
    return set(rules_of([*table, *more]).values())


def test_what_is_of_no_project_takes_the_callers_own(guard: Any) -> None:
    guarded = guard()
    answers = {caller: guarded.request(caller, "GET", "/providers").status_code for caller in CALLERS}
    assert {caller for caller, status in answers.items() if status == 200} == {"reader", "member", "stranger", "admin"}


class Forgetful:
    """A handler whose author thought of no policy."""

    policy_word = "pool"

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = "secret"


class Unruly(Forgetful):
    policy_word = "secrets"


def test_a_route_without_a_rule_cannot_be_served(api: Api) -> None:
    with pytest.raises(LookupError, match="GET /secrets has no rule: os_load-balancer_api:secrets:get_all"):
        rules(api, Route(("/v2",), "/secrets", Unruly()))


def test_a_handler_that_does_not_ask_the_policy_gives_nothing_away(api: Api) -> None:
    app = falcon.App(middleware=[Gate(api.conf, rules_of([Route(("/v2",), "/forgotten", Forgetful())]))])
    errors.register(app)
    app.add_route("/v2/forgotten", Forgetful())
    app.add_route("/v2/unlisted", Forgetful())
    for path in ("/v2/forgotten", "/v2/unlisted"):
        answer = TestClient(app).simulate_get(path, host="127.0.0.1")
        assert (answer.status_code, "secret" in answer.text) == (500, False)


def test_lists_show_the_callers_project_and_an_admin_sees_all(guard: Any) -> None:
    guarded = guard()
    mine = guarded.made("/loadbalancers", "loadbalancer", vip_subnet_id=SUBNET)
    made = guarded.request("stranger", "POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
    theirs = made.json["loadbalancer"]["id"]
    assert made.json["loadbalancer"]["project_id"] == ANOTHER

    def seen(caller: str, query: str = "") -> list[str]:
        result = guarded.request(caller, "GET", f"/loadbalancers{query}")
        return [row["id"] for row in result.json["loadbalancers"]]

    assert (seen("member"), seen("stranger"), seen("admin")) == ([mine], [theirs], [mine, theirs])
    assert seen("admin", f"?project_id={ANOTHER}") == [theirs]
    assert guarded.request("member", "GET", f"/loadbalancers?project_id={ANOTHER}").status_code == 403
    assert guarded.request("member", "GET", f"/loadbalancers?marker={theirs}").status_code == 400


def test_only_an_admin_creates_for_another_project(guard: Any) -> None:
    guarded = guard()
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": ANOTHER}}
    assert guarded.request("member", "POST", "/loadbalancers", body).status_code == 403
    body["loadbalancer"]["project_id"] = MINE
    created = guarded.request("admin", "POST", "/loadbalancers", body)
    assert (created.status_code, created.json["loadbalancer"]["project_id"]) == (201, MINE)


def test_what_is_not_there_is_404_and_what_is_anothers_403(guard: Any) -> None:
    guarded = guard()
    lb = guarded.made("/loadbalancers", "loadbalancer", vip_subnet_id=SUBNET)
    assert guarded.request("stranger", "GET", f"/loadbalancers/{lb}").status_code == 403
    assert guarded.request("stranger", "DELETE", f"/loadbalancers/{lb}").status_code == 403
    assert guarded.request("stranger", "GET", f"/loadbalancers/{uuid.uuid4()}").status_code == 404


def override(guarded: Guarded, text: str) -> None:
    """Next to the service's file, where oslo.policy looks."""
    Path(guarded.api.conf.config_file[-1]).with_name("policy.yaml").write_text(text)


def test_a_changed_policy_counts_at_once(guard: Any) -> None:
    guarded = guard()
    assert guarded.request("nobody", "GET", "/loadbalancers").status_code == 403
    override(guarded, '"os_load-balancer_api:loadbalancer:get_all": "role:guest"\n')
    assert guarded.request("nobody", "GET", "/loadbalancers").status_code == 200
    assert guarded.request("nobody", "GET", "/pools").status_code == 403


BROKEN = {
    "no YAML": "a: b: c",
    "a list": "- a",
    "a word": "hello",
    "a number for a check": f'"{rbac.API}loadbalancer:get_all": 5',
    "no check": f'"{rbac.API}loadbalancer:get_all":',
    "no check, in a word": f'"{rbac.API}loadbalancer:get_all": no',
    "a circle": f'"{rbac.API}loadbalancer:get_all": "rule:a"\n"a": "rule:b"\n"b": "rule:a"',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_policy_that_cannot_be_read_allows_nothing_and_says_so_until_it_is_mended(guard: Any, text: str) -> None:
    guarded = guard()
    assert guarded.request("reader", "GET", "/loadbalancers").status_code == 200
    override(guarded, text)
    for _ in range(2):
        answer = guarded.request("reader", "GET", "/loadbalancers")
        assert (answer.status_code, answer.json["faultstring"][:25]) == (503, "control/policy-unreadable")
        assert answer.json["faultstring"].endswith("maps rules to checks"), "what the file says is for the log"
    override(guarded, f'"{rbac.API}loadbalancer:get_all": "role:reader"')
    assert guarded.request("reader", "GET", "/loadbalancers").status_code == 200


def test_a_service_does_not_start_on_a_policy_that_cannot_be_read(guard: Any) -> None:
    conf = guard().api.conf
    Path(conf.config_file[-1]).with_name("policy.yaml").write_text("- a")
    with pytest.raises(SeamError, match="policy-unreadable"):
        Policy(conf)


@pytest.mark.parametrize(("refused", "additive"), [("post", True), ("put", True), ("delete", False)])
def test_a_batch_of_members_takes_the_rules_of_all_that_it_may_do(guard: Any, refused: str, additive: bool) -> None:
    guarded = guard()
    lb = guarded.made("/loadbalancers", "loadbalancer", vip_subnet_id=SUBNET)
    pool = guarded.made("/pools", "pool", loadbalancer_id=lb, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    url = f"/pools/{pool}/members?additive_only={additive}"
    assert guarded.request("member", "PUT", url, {"members": []}).status_code == 202
    override(guarded, f'"os_load-balancer_api:member:{refused}": "!"\n')
    assert guarded.request("member", "PUT", url, {"members": []}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/network"])
def test_what_clients_ask_first_needs_no_token(guard: Any, path: str) -> None:
    assert guard().api.client.simulate_get(path).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "garbage"}])
@pytest.mark.parametrize("path", ["/v2", "/v2/lbaas/loadbalancers", "/nowhere", "/network/v2.0/subnets"])
def test_all_else_needs_one_and_identity_headers_of_the_client_are_worth_nothing(
    guard: Any, path: str, headers: dict[str, str]
) -> None:
    forged = {"X-Identity-Status": "Confirmed", "X-Roles": "admin", "X-Project-Id": MINE}
    answer = guard(keystone_authtoken={"www_authenticate_uri": "http://keystone"}).api.client.simulate_get(
        path, headers=forged | headers
    )
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Keystone uri="http://keystone"')
    said = "The request you have made requires authentication."
    assert answer.json == {
        "faultcode": "Client",
        "faultstring": said,
        "debuginfo": None,
        "error": {"code": 401, "title": "Unauthorized", "message": said},
    }


def test_a_token_is_not_asked_for_the_host_header(guard: Any) -> None:
    headers = {"X-Auth-Token": f"admin@{MINE}", "Host": "lb.example.org"}
    assert guard().api.client.simulate_get("/v2/lbaas/pools", headers=headers).status_code == 200


def test_the_ports_of_all_are_for_who_may_read_all(guard: Any) -> None:
    guarded = guard()
    assert guarded.request("reader", "GET", "/network/v2.0/subnets").status_code == 200
    assert guarded.request("reader", "GET", "/network/v2.0/ports").status_code == 403
    assert guarded.request("admin", "GET", "/network/v2.0/ports").status_code == 200


def test_noauth_takes_the_names_that_it_is_told(make_api: ApiFactory) -> None:
    client = make_api(tavia={"allowed_hosts": "lb.example.org, other"}).client
    answers = [
        client.simulate_get("/v2/lbaas/pools", headers={"Host": host}).status_code
        for host in ("LB.example.org:9876", "localhost", "evil.example.org")
    ]
    assert answers == [200, 200, 403]
