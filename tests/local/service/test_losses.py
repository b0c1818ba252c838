"""Amphorae die under traffic. The VIP moves at once, without any controller; health makes the pair whole again."""

from __future__ import annotations

import pytest
from instance import Balancer, Instance, eventually

from tavia.cloud.protocols import ServerStatus


@pytest.fixture
def balancer(instance: Instance, request: pytest.FixtureRequest) -> Balancer:
    """A pair of its own for each test: one that fails over again and again is held back by the storm guard."""
    made = instance.balancer(request.node.name[:40])
    made.await_active()
    made.await_served_by("red", "green")
    return made


def is_whole(balancer: Balancer) -> bool:
    """Two amphorae run in the cloud, and the load balancer is at rest and serves."""
    servers = balancer.owned_servers()
    up = len(servers) == 2 and all(server.status is ServerStatus.ACTIVE for server in servers)
    return up and balancer.is_active() and balancer.statuses()["lb"] == "ONLINE"


def test_when_the_master_dies_the_backup_has_the_vip_before_anybody_repairs_anything(
    instance: Instance, balancer: Balancer
) -> None:
    master, _ = balancer.halves()
    with instance.frozen("tavia-worker", "tavia-health-manager"), instance.traffic(balancer) as seen:
        instance.kill(instance.pid_one(master))
        seen.clear()
        eventually(lambda: seen.answers.count("red") > 5 and seen.answers.count("green") > 5, "traffic goes on")
        server = instance.cloud.server(master["compute_id"])
        assert server
        assert server.status is ServerStatus.OFF
    eventually(lambda: is_whole(balancer), "the pair is whole again")


def test_when_both_servers_are_deleted_behind_our_back_both_are_replaced(
    instance: Instance, balancer: Balancer
) -> None:
    before = balancer.amphorae()
    instance.balancer("a witness that compute can be asked").await_active()
    for amphora in before:
        instance.cloud.delete(amphora["compute_id"])
    assert balancer.ask() is None
    balancer.await_served()
    eventually(lambda: is_whole(balancer), "the pair is whole again")
    assert not {a["id"] for a in before} & {a["id"] for a in balancer.amphorae()}
    balancer.await_served_by("red", "green")


def test_a_backup_that_dies_is_no_concern_of_the_clients(instance: Instance, balancer: Balancer) -> None:
    _, backup = balancer.halves()
    with instance.traffic(balancer) as seen:
        instance.cloud.delete(backup["compute_id"])
        eventually(lambda: backup["id"] not in {a["id"] for a in balancer.amphorae()}, "it is replaced")
        eventually(lambda: is_whole(balancer), "the pair is whole again")
    assert seen.failures == []
