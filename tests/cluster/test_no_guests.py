"""With the noop drivers real API and worker processes, several of each on one database, do all their work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from controllers import SUBNET, Controllers, controllers
from instance import eventually

from tavia.cli.api_client import ApiClient
from tavia.model.seams import SeamError


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Controllers]:
    with controllers(tmp_path, f"sqlite:///{tmp_path / 'tavia.sqlite'}", apis=2, workers=2) as made:
        yield made


def test_a_tree_lives_and_dies_with_several_of_each_service_and_no_guest(stand: Controllers) -> None:
    made = stand.create_tree()
    loadbalancer_id, pool_id = made["id"], made["pools"][0]["id"]
    stand.await_active(loadbalancer_id)
    amphora = _amphora(stand, loadbalancer_id)

    another_api = ApiClient(stand.url(stand.named("tavia-api")[1]))
    member = {"member": {"address": "192.0.2.9", "protocol_port": 80}}
    another_api.call("POST", f"/lbaas/pools/{pool_id}/members", member)
    stand.await_active(loadbalancer_id)
    members = stand.api.call("GET", f"/lbaas/pools/{pool_id}/members")["members"]
    assert [m["provisioning_status"] for m in members] == ["ACTIVE"] * 3

    another_api.call("PUT", f"/lbaas/loadbalancers/{loadbalancer_id}/failover")
    eventually(lambda: _amphora(stand, loadbalancer_id) != amphora, "another amphora serves")
    stand.await_active(loadbalancer_id)

    stand.api.call("DELETE", f"/lbaas/loadbalancers/{loadbalancer_id}?cascade=true")
    stand.await_gone(loadbalancer_id)
    with pytest.raises(SeamError, match=": 404 "):
        stand.show(loadbalancer_id)


def test_a_worker_that_made_nothing_goes_on_with_what_another_made(stand: Controllers) -> None:
    one, other = stand.named("tavia-worker")
    assert other.stop() == 0
    made = stand.create_tree()["id"]
    stand.await_active(made)
    one.kill()
    other.start()
    stand.api.call("PUT", f"/lbaas/loadbalancers/{made}/failover")
    stand.await_active(made)
    stand.api.call("DELETE", f"/lbaas/loadbalancers/{made}?cascade=true")
    stand.await_gone(made)
    assert not other.log.read_text().count("ERROR")


@pytest.mark.parametrize("provider", ["amphora", "octavia"])
def test_workers_serve_the_provider_under_both_of_its_names(stand: Controllers, provider: str) -> None:
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "provider": provider}}
    made = stand.api.call("POST", "/lbaas/loadbalancers", body)["loadbalancer"]
    assert stand.await_active(made["id"])["provider"] == provider
    stand.api.call("DELETE", f"/lbaas/loadbalancers/{made['id']}")
    stand.await_gone(made["id"])


def _amphora(stand: Controllers, loadbalancer_id: str) -> str:
    path = f"/octavia/amphorae?loadbalancer_id={loadbalancer_id}&status=ALLOCATED"
    return ",".join(a["id"] for a in stand.api.call("GET", path)["amphorae"])
