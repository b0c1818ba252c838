"""The rules by which a change is accepted (DESIGN section 3, "API write"): each test fails without its rule."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update
from tests.api.conftest import Api, ApiFactory

from tavia.api.vips import Vips
from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Role
from tavia.store import reading, schema
from tavia.store.clock import utcnow
from tavia.store.rows import to_row


class Stack:
    """A load balancer with one of each below it, all ACTIVE."""

    def __init__(self, api: Api) -> None:
        self.lb: str = api.loadbalancer()["id"]
        self.listener: str = api.listener(self.lb)["id"]
        self.pool: str = api.pool(listener_id=self.listener)["id"]
        self.member: str = api.member(self.pool)["id"]
        self.monitor: str = api.monitor(self.pool)["id"]
        api.converge(self.lb)
        self.paths = {
            LoadBalancer: f"/loadbalancers/{self.lb}",
            Listener: f"/listeners/{self.listener}",
            Pool: f"/pools/{self.pool}",
            Member: f"/pools/{self.pool}/members/{self.member}",
            HealthMonitor: f"/healthmonitors/{self.monitor}",
        }
        self.ids = {
            LoadBalancer: self.lb,
            Listener: self.listener,
            Pool: self.pool,
            Member: self.member,
            HealthMonitor: self.monitor,
        }

    def pending(self, api: Api) -> dict[str, str]:
        """What is not ACTIVE, by the resource's name."""
        rows = {resource.__name__: api.row(resource, row_id) for resource, row_id in self.ids.items()}
        return {name: str(row.provisioning_status) for name, row in rows.items() if row.provisioning_status != "ACTIVE"}

    def pending_generations(self, api: Api) -> set[int]:
        """The generations of what is not ACTIVE."""
        rows = [api.row(resource, row_id) for resource, row_id in self.ids.items()]
        return {row.changed_generation for row in rows if row.provisioning_status != "ACTIVE"}


@pytest.fixture
def stack(api: Api) -> Stack:
    return Stack(api)


ROOTS: dict[Any, str] = {
    LoadBalancer: "loadbalancer",
    Listener: "listener",
    Pool: "pool",
    Member: "member",
    HealthMonitor: "healthmonitor",
}
ANCESTORS: dict[Any, list[str]] = {
    LoadBalancer: ["LoadBalancer"],
    Listener: ["LoadBalancer", "Listener"],
    Pool: ["LoadBalancer", "Listener", "Pool"],
    Member: ["LoadBalancer", "Listener", "Pool", "Member"],
    HealthMonitor: ["LoadBalancer", "Listener", "Pool", "HealthMonitor"],
}


@pytest.mark.parametrize("resource", ROOTS)
def test_a_put_sets_the_object_and_its_ancestors_pending_at_one_new_generation(
    api: Api, stack: Stack, resource: Any
) -> None:
    before = api.generation(stack.lb)
    api.put(ROOTS[resource], stack.paths[resource], name="new")
    assert stack.pending(api) == dict.fromkeys(ANCESTORS[resource], "PENDING_UPDATE")
    assert stack.pending_generations(api) == {before + 1} == {api.generation(stack.lb)}


@pytest.mark.parametrize("resource", ROOTS)
def test_an_empty_put_runs_a_full_update(api: Api, stack: Stack, resource: Any) -> None:
    before = api.generation(stack.lb)
    api.put(ROOTS[resource], stack.paths[resource])
    assert api.generation(stack.lb) == before + 1


@pytest.mark.parametrize("resource", [Listener, Pool, Member, HealthMonitor])
def test_a_delete_marks_the_object_and_sets_its_ancestors_pending(api: Api, stack: Stack, resource: Any) -> None:
    generation = api.generation(stack.lb) + 1
    api.delete(stack.paths[resource])
    pending = stack.pending(api)
    assert pending.pop(resource.__name__) == "PENDING_DELETE"
    below = {"Member", "HealthMonitor"} if resource is Pool else set()
    assert {pending.pop(name) for name in below} <= {"PENDING_DELETE"}
    assert pending == dict.fromkeys(ANCESTORS[resource][:-1], "PENDING_UPDATE")
    assert stack.pending_generations(api) == {generation}
    assert api.row(resource, stack.ids[resource]).deleted_generation == generation
    assert api.get(stack.paths[resource])[ROOTS[resource]]["provisioning_status"] == "PENDING_DELETE"
    api.converge(stack.lb)
    assert api.request("GET", stack.paths[resource]).status_code == 404


def test_a_pool_that_goes_takes_its_members_and_monitor_and_leaves_the_listener_without(api: Api, stack: Stack) -> None:
    api.delete(stack.paths[Pool])
    assert api.get(stack.paths[Listener])["listener"]["default_pool_id"] is None
    api.converge(stack.lb)
    assert api.get("/pools")["pools"] == api.get("/healthmonitors")["healthmonitors"] == []


def test_changes_are_accepted_while_another_is_in_progress(api: Api, stack: Stack) -> None:
    for number in range(3):
        api.put("member", stack.paths[Member], weight=number)
    assert api.generation(stack.lb) == api.row(LoadBalancer, stack.lb).observed_generation + 3


def test_a_change_of_what_was_never_applied_leaves_it_pending_create(api: Api) -> None:
    lb = api.loadbalancer()["id"]
    listener = api.listener(lb)["id"]
    api.put("listener", f"/listeners/{listener}", name="x")
    api.put("loadbalancer", f"/loadbalancers/{lb}", name="x")
    assert api.row(Listener, listener).provisioning_status == "PENDING_CREATE"
    assert api.row(LoadBalancer, lb).provisioning_status == "PENDING_CREATE"


def test_a_child_that_was_never_applied_is_deleted_like_any_other(api: Api) -> None:
    lb = api.loadbalancer()["id"]
    listener = api.listener(lb)["id"]
    api.delete(f"/listeners/{listener}")
    assert api.row(Listener, listener).provisioning_status == "PENDING_DELETE"
    api.delete(f"/listeners/{listener}")
    api.converge(lb)
    assert api.request("GET", f"/listeners/{listener}").status_code == 404


def test_what_is_marked_deleted_is_not_in_use(api: Api, stack: Stack) -> None:
    api.delete(stack.paths[Member])
    assert api.member(stack.pool)
    api.delete(stack.paths[HealthMonitor])
    assert api.monitor(stack.pool)
    api.delete(stack.paths[Listener])
    assert api.listener(stack.lb)


def test_what_is_marked_deleted_takes_no_changes_and_no_children(api: Api, stack: Stack) -> None:
    other = api.listener(stack.lb, 81)["id"]
    api.delete(stack.paths[Pool])
    told = (409, f"Pool {stack.pool} is immutable and cannot be updated.")
    assert api.refusal("PUT", stack.paths[Pool], {"pool": {"name": "x"}}) == told
    member = {"member": {"address": "10.0.0.9", "protocol_port": 1}}
    assert api.refusal("POST", f"/pools/{stack.pool}/members", member) == told
    assert api.refusal("PUT", f"/pools/{stack.pool}/members", {"members": []}) == told
    assert api.refusal("PUT", f"/listeners/{other}", {"listener": {"default_pool_id": stack.pool}}) == told


def test_a_load_balancer_being_deleted_takes_no_changes_but_delete_again(api: Api, stack: Stack) -> None:
    api.delete(f"{stack.paths[LoadBalancer]}?cascade=true")
    intent = api.row(LoadBalancer, stack.lb).deleted_generation
    told = (409, f"Load Balancer {stack.lb} is immutable and cannot be updated.")
    body = {"listener": {"loadbalancer_id": stack.lb, "protocol": "TCP", "protocol_port": 9}}
    assert api.refusal("POST", "/listeners", body) == told
    assert api.refusal("PUT", stack.paths[Member], {"member": {}}) == told
    told = (409, f"Invalid state PENDING_DELETE of loadbalancer resource {stack.lb}")
    assert api.refusal("PUT", stack.paths[LoadBalancer], {"loadbalancer": {}}) == told
    assert api.refusal("PUT", f"{stack.paths[LoadBalancer]}/failover") == told
    set_error(api, stack.lb)
    api.delete(stack.paths[LoadBalancer])
    row = api.row(LoadBalancer, stack.lb)
    assert (row.provisioning_status, row.deleted_generation) == ("PENDING_DELETE", intent)


def test_a_load_balancer_in_error_accepts_changes(api: Api, stack: Stack) -> None:
    set_error(api, stack.lb)
    api.put("member", stack.paths[Member], weight=3)
    assert api.row(LoadBalancer, stack.lb).provisioning_status == "PENDING_UPDATE"


def set_error(api: Api, loadbalancer_id: str) -> None:
    table = schema.load_balancer
    statement = update(table).where(table.c.id == loadbalancer_id).values(provisioning_status="ERROR")
    api.database.write(lambda conn: conn.execute(statement))


@pytest.fixture
def strict(make_api: ApiFactory) -> Api:
    return make_api(api_settings={"immutable_while_pending": "true"})


def test_octavias_way_can_be_restored_one_change_at_a_time(api: Api, strict: Api) -> None:
    stack = Stack(api)
    strict.put("member", stack.paths[Member], weight=2)
    generation = api.generation(stack.lb)
    told = (409, f"Load Balancer {stack.lb} is immutable and cannot be updated.")
    assert strict.refusal("PUT", stack.paths[Member], {"member": {}}) == told
    assert strict.refusal("DELETE", stack.paths[Listener]) == told
    told = (409, f"Invalid state PENDING_UPDATE of loadbalancer resource {stack.lb}")
    for method, path, body in (
        ("PUT", stack.paths[LoadBalancer], {"loadbalancer": {}}),
        ("DELETE", f"{stack.paths[LoadBalancer]}?cascade=true", None),
        ("PUT", f"{stack.paths[LoadBalancer]}/failover", None),
    ):
        assert strict.refusal(method, path, body) == told
    assert api.generation(stack.lb) == generation
    set_error(api, stack.lb)
    assert strict.refusal("PUT", stack.paths[Member], {"member": {}})[0] == 409
    assert strict.request("PUT", f"{stack.paths[LoadBalancer]}/failover").status_code == 202


def test_a_batch_is_one_generation_and_leaves_unchanged_members_alone(api: Api, stack: Stack) -> None:
    before = api.generation(stack.lb)
    batch = [{"address": "10.0.0.1", "protocol_port": 80}, {"address": "10.0.0.2", "protocol_port": 80}]
    assert api.request("PUT", f"/pools/{stack.pool}/members", {"members": batch}).status_code == 202
    assert api.generation(stack.lb) == before + 1
    old = api.row(Member, stack.member)
    assert (old.provisioning_status, old.changed_generation <= before) == ("ACTIVE", True)
    assert set(stack.pending(api)) == {"LoadBalancer", "Listener", "Pool"}


def test_a_batch_that_changes_nothing_is_accepted_without_work(api: Api, stack: Stack) -> None:
    before = api.generation(stack.lb)
    batch = [{"address": "10.0.0.1", "protocol_port": 80, "weight": 1}]
    assert api.request("PUT", f"/pools/{stack.pool}/members", {"members": batch}).status_code == 202
    assert api.generation(stack.lb) == before
    assert stack.pending(api) == {}


def test_a_refused_change_leaves_the_generation_and_every_status_alone(api: Api, stack: Stack) -> None:
    before = api.generation(stack.lb)
    member = {"member": {"address": "10.0.0.1", "protocol_port": 80}}
    assert api.refusal("POST", f"/pools/{stack.pool}/members", member)[0] == 409
    assert api.refusal("DELETE", stack.paths[LoadBalancer])[0] == 400
    assert api.generation(stack.lb) == before
    assert stack.pending(api) == {}


def test_the_first_statement_of_a_change_takes_the_generation(api: Api, stack: Stack, statements: list[str]) -> None:
    for method, path, body in (
        ("POST", f"/pools/{stack.pool}/members", {"member": {"address": "10.0.0.5", "protocol_port": 80}}),
        ("PUT", stack.paths[Listener], {"listener": {"name": "x"}}),
        ("DELETE", stack.paths[HealthMonitor], None),
        ("PUT", f"{stack.paths[LoadBalancer]}/failover", None),
    ):
        statements.clear()
        assert api.request(method, path, body).status_code < 300
        writing = statements[statements.index("BEGIN IMMEDIATE") + 1 :] if "BEGIN IMMEDIATE" in statements else []
        first = writing[0] if writing else next(s for s in statements if not s.startswith(("SELECT", "BEGIN")))
        assert first.startswith("UPDATE load_balancer SET")


def test_a_member_costs_six_statements_however_many_there_are(api: Api, stack: Stack, statements: list[str]) -> None:
    for number in range(20):
        statements.clear()
        api.member(stack.pool, f"10.0.1.{number}")
        assert len([s for s in statements if not s.startswith("BEGIN")]) == 6


def test_a_batch_costs_the_same_statements_however_many_members_change(
    api: Api, stack: Stack, statements: list[str]
) -> None:
    def cost(weights: dict[int, int]) -> int:
        members = [{"address": f"10.0.2.{n}", "protocol_port": 80, "weight": weight} for n, weight in weights.items()]
        statements.clear()
        assert api.request("PUT", f"/pools/{stack.pool}/members", {"members": members}).status_code == 202
        shown = api.get(f"/pools/{stack.pool}/members?sort=address")["members"]
        assert {member["address"]: member["weight"] for member in shown if member["address"].startswith("10.0.2.")} == {
            f"10.0.2.{n}": weight for n, weight in weights.items()
        }
        return len(statements)

    cost(dict.fromkeys(range(200), 7))
    few = cost(dict.fromkeys(range(200), 7) | {0: 8})
    assert cost({n: n + 9 for n in range(200)}) == few


@pytest.mark.parametrize("other", ["the same member", "its monitor goes", "its pool goes"])
def test_a_member_is_judged_by_what_was_accepted_while_it_was_validated(
    api: Api, stack: Stack, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, body = f"/pools/{stack.pool}/members", {"member": {"address": "10.0.1.1", "protocol_port": 80}}
    meanwhile: dict[str, tuple[str, str, Any]] = {
        "the same member": ("POST", members, body),
        "its monitor goes": ("DELETE", stack.paths[HealthMonitor], None),
        "its pool goes": ("DELETE", stack.paths[Pool], None),
    }
    check = Vips.check_member_subnet

    def with_another_request(*args: Any) -> None:
        check(*args)
        if other in meanwhile:
            assert api.request(*meanwhile.pop(other)).status_code < 300

    monkeypatch.setattr(Vips, "check_member_subnet", with_another_request)
    answer = api.request("POST", members, body)
    if other == "its monitor goes":
        assert answer.json["member"]["operating_status"] == "NO_MONITOR"
    else:
        assert answer.status_code == 409, answer.text


def test_workers_are_woken_by_what_is_accepted_and_by_nothing_else(make_api: ApiFactory, tmp_path: Path) -> None:
    api = make_api(tavia={"state_dir": str(tmp_path)})
    (tmp_path / "wake").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker:
        worker.bind(str(tmp_path / "wake" / "worker.sock"))
        worker.setblocking(False)
        lb = api.loadbalancer()["id"]
        assert worker.recv(1) == b""
        api.get("/loadbalancers")
        assert api.refusal("PUT", f"/loadbalancers/{lb}", {"loadbalancer": {"name": 1}})[0] == 400
        with pytest.raises(BlockingIOError):
            worker.recv(1)


# -- Failover --------------------------------------------------------------------------------------------------------


def add_amphora(api: Api, amphora_id: str, loadbalancer_id: str | None, status: AmphoraStatus) -> None:
    row = Amphora(id=amphora_id, loadbalancer_id=loadbalancer_id, status=status, role=Role.MASTER, created_at=utcnow())
    api.database.write(lambda conn: conn.execute(insert(schema.amphora).values(to_row(row))))


def replaced(api: Api, amphora_id: str) -> int | None:
    with api.database.read() as conn:
        return reading.get(conn, Amphora, amphora_id).replace_generation


def test_a_failover_marks_the_amphorae_that_stand_and_none_twice(api: Api, stack: Stack) -> None:
    add_amphora(api, "serving", stack.lb, AmphoraStatus.ALLOCATED)
    add_amphora(api, "leaving", stack.lb, AmphoraStatus.PENDING_DELETE)
    result = api.request("PUT", f"{stack.paths[LoadBalancer]}/failover")
    assert (result.status_code, result.text) == (202, "")
    first = api.generation(stack.lb)
    assert (replaced(api, "serving"), replaced(api, "leaving")) == (first, None)
    assert api.row(LoadBalancer, stack.lb).provisioning_status == ProvisioningStatus.PENDING_UPDATE
    api.request("PUT", f"{stack.paths[LoadBalancer]}/failover")
    assert replaced(api, "serving") == first


def test_an_amphora_fails_over_alone(api: Api, stack: Stack) -> None:
    add_amphora(api, "one", stack.lb, AmphoraStatus.ALLOCATED)
    add_amphora(api, "two", stack.lb, AmphoraStatus.ALLOCATED)
    assert api.request("PUT", "/v2/octavia/amphorae/one/failover").status_code == 202
    assert (replaced(api, "one"), replaced(api, "two")) == (api.generation(stack.lb), None)


def test_amphorae_are_listed_shown_and_counted(api: Api, stack: Stack) -> None:
    add_amphora(api, "one", stack.lb, AmphoraStatus.ALLOCATED)
    add_amphora(api, "gone", stack.lb, AmphoraStatus.DELETED)
    (listed,) = api.get(f"/v2/octavia/amphorae?loadbalancer_id={stack.lb}&role=MASTER")["amphorae"]
    shown = api.get("/v2.0/octavia/amphorae/one")["amphora"]
    assert listed == shown
    assert (shown["status"], shown["cert_busy"], shown["loadbalancer_id"]) == ("ALLOCATED", False, stack.lb)
    assert "replace_generation" not in json.dumps(shown)
    assert api.refusal("GET", "/v2/octavia/amphorae/gone")[0] == 404
    assert api.refusal("GET", "/v2/octavia/amphorae/one/stats")[0] == 404
    counters = dict.fromkeys(schema.COUNTERS, 3)
    ids = {"listener_id": stack.listener, "loadbalancer_id": stack.lb}
    row = counters | ids | {"amphora_id": "one"}
    api.database.write(lambda conn: conn.execute(insert(schema.listener_statistics).values(row)))
    of_a_silent_one = counters | {"active_connections": 0}
    assert api.get("/v2/octavia/amphorae/one/stats") == {"amphora_stats": [of_a_silent_one | ids | {"id": "one"}]}


@pytest.mark.parametrize("status", [AmphoraStatus.ALLOCATED, AmphoraStatus.BOOTING, AmphoraStatus.PENDING_DELETE])
def test_an_amphora_that_serves_cannot_be_deleted(api: Api, stack: Stack, status: AmphoraStatus) -> None:
    add_amphora(api, "one", stack.lb, status)
    assert api.refusal("DELETE", "/v2/octavia/amphorae/one") == (409, "Amphora one is immutable and cannot be updated.")
    assert api.refusal("DELETE", "/v2/octavia/amphorae/two") == (404, "Amphora two not found.")


def test_a_failed_amphora_is_removed_at_once_where_somebody_asks(api: Api, stack: Stack) -> None:
    add_amphora(api, "one", stack.lb, AmphoraStatus.ERROR)
    before = api.generation(stack.lb)
    assert api.row(LoadBalancer, stack.lb).due_at is None
    assert api.request("DELETE", "/v2/octavia/amphorae/one").status_code == 204
    assert api.row(LoadBalancer, stack.lb).due_at is not None
    assert api.generation(stack.lb) == before


def test_an_amphoras_configuration_is_sent_again_by_converging(api: Api, stack: Stack) -> None:
    add_amphora(api, "one", stack.lb, AmphoraStatus.ALLOCATED)
    before = api.generation(stack.lb)
    assert api.request("PUT", "/v2/octavia/amphorae/one/config").status_code == 202
    assert (api.generation(stack.lb), replaced(api, "one")) == (before + 1, None)
