"""Topology SINGLE: one amphora, no VRRP; its successor takes the VIP over once it is fenced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from instance import Balancer, Instance, eventually


@pytest.fixture(scope="module")
def single(whole: Instance) -> Iterator[Balancer]:
    """A load balancer made while SINGLE was the configured topology."""
    whole.configure("controller_worker", loadbalancer_topology="SINGLE")
    whole.restart("tavia-api")
    eventually(lambda: whole.api.call("GET", "/lbaas/loadbalancers"), "the API answers again")
    yield whole.balancer("single")
    whole.configure("controller_worker", loadbalancer_topology="ACTIVE_STANDBY")
    whole.restart("tavia-api")
    eventually(lambda: whole.api.call("GET", "/lbaas/loadbalancers"), "the API answers again")


@pytest.fixture
def balancer(instance: Instance, single: Balancer) -> Balancer:
    del instance
    single.await_statuses(lb="ONLINE", red="ONLINE", green="ONLINE")
    return single


def test_one_amphora_serves(balancer: Balancer) -> None:
    (amphora,) = balancer.amphorae()
    assert amphora["role"] == "STANDALONE"
    balancer.await_served_by("red", "green")


def test_a_failover_moves_the_vip_to_another_amphora_and_removes_the_old_one(balancer: Balancer) -> None:
    (old,) = balancer.amphorae()
    balancer.change("PUT", f"loadbalancers/{balancer.id}/failover")
    balancer.await_active()
    (new,) = balancer.amphorae()
    assert new["id"] != old["id"]
    assert [server.id for server in balancer.owned_servers()] == [new["compute_id"]]
    balancer.await_served_by("red", "green")


def test_an_amphora_that_is_lost_is_replaced_and_traffic_comes_back(instance: Instance, balancer: Balancer) -> None:
    (old,) = balancer.amphorae()
    instance.balancer("a witness that compute can be asked").await_active()
    instance.cloud.delete(old["compute_id"])
    eventually(lambda: old["id"] not in {a["id"] for a in balancer.amphorae()}, "it is no longer counted on")
    balancer.await_served_by("red", "green")
    balancer.await_statuses(lb="ONLINE")
