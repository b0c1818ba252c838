"""The data plane outlives the control plane, which takes it over again without touching it."""

from __future__ import annotations

import pytest
from instance import CONTROLLERS, Balancer, Instance, eventually


@pytest.fixture
def balancer(instance: Instance) -> Balancer:
    made = instance.balancer("survivor")
    made.await_active()
    made.await_statuses(lb="ONLINE", red="ONLINE", green="ONLINE")
    return made


def test_without_any_controller_traffic_flows_vrrp_fails_over_and_a_rebooted_amphora_serves_again(
    instance: Instance, balancer: Balancer
) -> None:
    master, backup = balancer.halves()
    with instance.traffic(balancer) as seen:
        instance.kill(instance.supervisor(), *map(instance.service, CONTROLLERS))
        seen.clear()
        eventually(lambda: len(seen.answers) > 50, "requests are sent")
        assert seen.failures == []

        instance.kill(instance.pid_one(master))
        balancer.await_served_by("red", "green")

        instance.cloud.power_on(master["compute_id"])
        instance.cloud.power_off(backup["compute_id"])
        balancer.await_served_by("red", "green")
        instance.cloud.power_on(backup["compute_id"])

    processes = {a["id"]: instance.pid_one(a) for a in (master, backup)}
    with instance.traffic(balancer) as seen:
        eventually(lambda: "red" in seen.answers[-5:], "traffic flows")
        seen.clear()
        instance.driver.tavia("up")
        balancer.await_statuses(lb="ONLINE", red="ONLINE", green="ONLINE")
        balancer.change("PUT", balancer.member_path("red"), member={"weight": 2})
        balancer.await_active()
    assert seen.failures == []
    assert {a["id"]: instance.pid_one(a) for a in balancer.amphorae()} == processes


def test_all_services_may_be_killed_at_once_under_load(instance: Instance, balancer: Balancer) -> None:
    with instance.traffic(balancer) as seen:
        instance.kill(instance.service("tavia-local-cloud"), *map(instance.service, CONTROLLERS))
        eventually(lambda: balancer.show()["id"], "the API answers again")
        balancer.change("PUT", balancer.member_path("green"), member={"weight": 3})
        balancer.await_active()
    assert seen.failures == []
