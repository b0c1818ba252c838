"""Operating statuses, as heartbeats of real amphorae tell them: how the members do, and what follows from that."""

from __future__ import annotations

import pytest
from instance import Balancer, Instance


@pytest.fixture(scope="module")
def shared(whole: Instance) -> Balancer:
    return whole.balancer("statuses")


@pytest.fixture
def balancer(instance: Instance, shared: Balancer) -> Balancer:
    """A pair in front of red and green, all ONLINE."""
    shared.await_statuses(lb="ONLINE", listener="ONLINE", pool="ONLINE", red="ONLINE", green="ONLINE")
    return shared


def test_a_member_that_fails_its_checks_is_in_error_and_comes_back_by_itself(
    instance: Instance, balancer: Balancer
) -> None:
    instance.members["red"].healthy = False
    balancer.await_statuses(red="ERROR", green="ONLINE", pool="DEGRADED", listener="ONLINE", lb="DEGRADED")
    balancer.await_served_by("green")
    instance.members["red"].healthy = True
    balancer.await_statuses(red="ONLINE", pool="ONLINE", lb="ONLINE")
    balancer.await_served_by("red", "green")


def test_a_pool_of_which_no_member_is_left_is_in_error(instance: Instance, balancer: Balancer) -> None:
    for member in instance.members.values():
        member.healthy = False
    balancer.await_statuses(red="ERROR", green="ERROR", pool="ERROR", lb="ERROR")
    assert balancer.ask() is None


def test_a_member_without_weight_drains(balancer: Balancer) -> None:
    balancer.change("PUT", balancer.member_path("red"), member={"weight": 0})
    balancer.await_statuses(red="DRAINING", pool="ONLINE", lb="ONLINE")
    balancer.await_served_by("green")
    balancer.change("PUT", balancer.member_path("red"), member={"weight": 1})


def test_what_is_switched_off_is_offline(balancer: Balancer) -> None:
    balancer.change("PUT", balancer.member_path("red"), member={"admin_state_up": False})
    balancer.await_statuses(red="OFFLINE", pool="ONLINE")
    balancer.await_served_by("green")
    balancer.change("PUT", f"listeners/{balancer.listener_id}", listener={"admin_state_up": False})
    balancer.await_statuses(listener="OFFLINE")
    assert balancer.ask() is None
    balancer.change("PUT", f"listeners/{balancer.listener_id}", listener={"admin_state_up": True})
    balancer.change("PUT", balancer.member_path("red"), member={"admin_state_up": True})


def test_without_a_monitor_nobody_knows_how_the_members_do(balancer: Balancer) -> None:
    pool = balancer.change("GET", f"pools/{balancer.pool_id}")["pool"]
    balancer.change("DELETE", f"healthmonitors/{pool['healthmonitor_id']}")
    balancer.await_statuses(red="NO_MONITOR", green="NO_MONITOR", pool="ONLINE", lb="ONLINE")
    body = {"pool_id": balancer.pool_id, "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    balancer.change("POST", "healthmonitors", healthmonitor=body)
    balancer.await_statuses(red="ONLINE", green="ONLINE")
