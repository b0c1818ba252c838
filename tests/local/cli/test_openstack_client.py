"""The demonstration, then the real ``openstack loadbalancer`` command with the clouds.yaml that ``tavia up`` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from instance_driver import Driver, driving

from tavia.cli import demo
from tavia.cli.progress import wait_until

VIP_OF_DEMO = ("loadbalancer", "show", "demo-lb")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One instance for all tests here, with the demonstration's load balancer."""
    with driving(tmp_path_factory.mktemp("openstack") / "state") as driver:
        driver.tavia("up")
        driver.tavia("demo")
        yield driver


def asked(driver: Driver, *words: str) -> Any:
    return json.loads(driver.openstack(*words, "-f", "json").stdout)


def answers(driver: Driver) -> dict[str, Any]:
    """What 100 requests through the demonstration's VIP got."""
    return demo._ask(driver.embedded, asked(driver, *VIP_OF_DEMO)["vip_address"])


def test_the_demonstration_can_be_repeated_and_makes_nothing_twice(running: Driver) -> None:
    before = asked(running, "loadbalancer", "amphora", "list")
    told = running.tavia("demo").stdout
    assert "100 answered, 0 failed" in told
    assert asked(running, "loadbalancer", "amphora", "list") == before


def test_both_backends_serve_through_the_vip(running: Driver) -> None:
    got = answers(running)
    assert got["failed"] == 0
    assert got["answers"] == {"demo-1": 50, "demo-2": 50}


def test_a_load_balancer_is_made_changed_and_deleted_with_all_below_it(running: Driver) -> None:
    made = asked(running, "loadbalancer", "create", "--name", "mine", "--vip-subnet-id", "demo-subnet", "--wait")
    assert (made["provisioning_status"], made["operating_status"]) == ("ACTIVE", "ONLINE")
    running.openstack("loadbalancer", "set", "mine", "--description", "hello", "--wait")
    listener = ("--name", "web", "--protocol", "HTTP", "--protocol-port", "80", "--wait", "mine")
    running.openstack("loadbalancer", "listener", "create", *listener)
    pool = ("--name", "servers", "--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN", "--listener", "web", "--wait")
    running.openstack("loadbalancer", "pool", "create", *pool)
    member = ("--address", "198.19.0.253", "--protocol-port", "8080", "--subnet-id", "demo-subnet", "--wait", "servers")
    running.openstack("loadbalancer", "member", "create", *member)
    check = ("--type", "TCP", "--delay", "1", "--timeout", "1", "--max-retries", "1", "--wait", "servers")
    running.openstack("loadbalancer", "healthmonitor", "create", *check)
    shown = asked(running, "loadbalancer", "show", "mine")
    assert shown["description"] == "hello"
    assert shown["listeners"]
    assert shown["pools"]
    tree = json.loads(running.openstack("loadbalancer", "status", "show", "mine").stdout)["loadbalancer"]
    assert tree["listeners"][0]["pools"][0]["members"][0]["address"] == "198.19.0.253"
    running.openstack("loadbalancer", "delete", "mine", "--cascade", "--wait")
    assert [row["name"] for row in asked(running, "loadbalancer", "list")] == ["demo-lb"]
    assert [row["name"] for row in asked(running, "loadbalancer", "pool", "list")] == ["demo-pool"]


def test_its_amphorae_can_be_seen_and_replaced_while_it_serves(running: Driver) -> None:
    before = {row["id"] for row in asked(running, "loadbalancer", "amphora", "list")}
    roles = {asked(running, "loadbalancer", "amphora", "show", amphora)["role"] for amphora in before}
    assert roles == {"MASTER", "BACKUP"}
    running.openstack("loadbalancer", "failover", "demo-lb", "--wait")
    after = {row["id"] for row in asked(running, "loadbalancer", "amphora", "list")}
    assert len(after) == 2
    assert not before & after
    assert answers(running)["failed"] == 0


def test_statistics_count_the_requests(running: Driver) -> None:
    def connections() -> int:
        counted: int = asked(running, "loadbalancer", "stats", "show", "demo-lb")["total_connections"]
        return counted

    before = connections()
    answers(running)
    assert wait_until(lambda: connections() - before >= demo.REQUESTS, 20)


def test_a_subnet_that_does_not_exist_is_told(running: Driver) -> None:
    refused = running.openstack("loadbalancer", "create", "--vip-subnet-id", "nowhere", ok=False)
    assert refused.returncode != 0
    assert "nowhere" in refused.stderr
