"""What clients of a VIP notice while members come, go and fail: nothing but what was asked for."""

from __future__ import annotations

import threading

import pytest
from instance import Balancer, Instance, eventually


@pytest.fixture(scope="module")
def shared(whole: Instance) -> Balancer:
    return whole.balancer("traffic")


@pytest.fixture
def balancer(instance: Instance, shared: Balancer) -> Balancer:
    """A pair in front of red and green, both in use."""
    found = instance.api.call("GET", f"/lbaas/pools/{shared.pool_id}/members")["members"]
    for name in instance.members.keys() - {member["name"] for member in found}:
        add(shared, name)
    shared.await_active()
    shared.await_served_by("red", "green")
    return shared


def add(balancer: Balancer, name: str) -> None:
    body = balancer.instance.member_body(name)
    balancer.members[name] = balancer.change("POST", f"pools/{balancer.pool_id}/members", member=body)["member"]["id"]


class Download(threading.Thread):
    """A slow response through the VIP, begun on ``member`` and not finished until the member is told so."""

    def __init__(self, balancer: Balancer, name: str) -> None:
        super().__init__()
        self.got: str | None = None
        self._balancer = balancer
        member = balancer.instance.members[name]
        before = member.slow_requests
        self.start()
        eventually(lambda: member.slow_requests > before, "the response has begun")

    def run(self) -> None:
        self.got = self._balancer.ask("/slow")


def test_a_removed_member_finishes_its_responses_and_gets_no_new_requests(
    instance: Instance, balancer: Balancer
) -> None:
    balancer.change("PUT", balancer.member_path("green"), member={"weight": 0})
    balancer.await_served_by("red")
    download = Download(balancer, "red")
    balancer.change("PUT", balancer.member_path("green"), member={"weight": 1})
    balancer.change("DELETE", balancer.member_path("red"))
    balancer.await_active()
    assert {balancer.ask() for _ in range(10)} == {"green"}
    assert download.is_alive()
    instance.members["red"].finish.set()
    download.join()
    assert download.got == "red"


def test_members_come_and_go_without_a_failed_request(instance: Instance, balancer: Balancer) -> None:
    with instance.traffic(balancer) as seen:
        for _ in range(5):
            balancer.change("DELETE", balancer.member_path("green"))
            balancer.await_active()
            add(balancer, "green")
            balancer.await_active()
    assert seen.failures == []
    assert {"red", "green"} <= set(seen.answers)


def test_a_failover_that_is_asked_for_replaces_both_amphorae_while_the_other_serves(
    instance: Instance, balancer: Balancer
) -> None:
    before = {amphora["id"] for amphora in balancer.amphorae()}
    with instance.traffic(balancer) as seen:
        balancer.change("PUT", f"loadbalancers/{balancer.id}/failover")
        balancer.await_active()
    after = {amphora["id"] for amphora in balancer.amphorae()}
    assert len(after) == 2
    assert not before & after
    assert len(seen.answers) > 2 * len(seen.failures)
    balancer.await_served_by("red", "green")


def test_a_tcp_listener_carries_requests_whole(instance: Instance) -> None:
    balancer = instance.balancer("tcp", protocol="TCP")
    balancer.await_statuses(lb="ONLINE", red="ONLINE", green="ONLINE")
    balancer.await_served_by("red", "green")
