"""A load balancer of one amphora, from the tenant's first command to the last, through everything that may befall it.

One load balancer goes through most tests: each begins with it whole and serving, whatever its amphora is by then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import served
from instance import eventually
from served import Served, await_served
from tavia_on_cloud import BOOT_SECONDS, TaviaOnCloud, is_gone
from tenant import TenantServer, ask, asking


@pytest.fixture(scope="module")
def web(tavia_of_the_session: TaviaOnCloud, server: TenantServer) -> Iterator[tuple[Served, str]]:
    """The load balancer and the address that it has outside."""
    made = served.create(tavia_of_the_session, server, "web", 8081, 8082)
    with tavia_of_the_session.tenant.floating_ip(made.vip_port_id) as outside:
        await_served(outside, "8081", "8082")
        yield made, outside
    tavia_of_the_session.clear()


@pytest.mark.smoke
def test_a_tenant_creates_one_that_serves_inside_and_outside_and_deletes_it(
    tavia: TaviaOnCloud, server: TenantServer
) -> None:
    made = served.create(tavia, server, "smoke", 8081, 8082)
    with tavia.tenant.floating_ip(made.vip_port_id) as outside:
        await_served(outside, "8081", "8082")
        assert {server.ask(made.vip) for _ in range(6)} == {"8081", "8082"}
    tavia.tenant.openstack("loadbalancer", "delete", "--cascade", "--wait", "smoke")
    assert tavia.tenant.loadbalancer("list") == []
    eventually(lambda: not tavia.left(), "nothing of it is left on the cloud", 60)


def test_members_come_and_go_while_requests_flow_and_none_fails(web: tuple[Served, str], server: TenantServer) -> None:
    balancer, outside = web
    with asking(outside) as seen:
        for port in (8083, 8084):
            balancer.add_member(server.address, port)
            eventually(lambda wanted=str(port): wanted in seen.answers, f"{port} serves")  # type: ignore[misc]
        for port in (8081, 8083, 8084):
            balancer.remove_member(port)
        mark = len(seen.answers)
        balancer.add_member(server.address, 8081)
        eventually(lambda: "8081" in seen.since(mark), "8081 serves again")
    assert seen.failures == []
    await_served(outside, "8081", "8082")


def test_a_member_that_answers_no_more_turns_error_and_back(web: tuple[Served, str], server: TenantServer) -> None:
    balancer, outside = web
    eventually(lambda: balancer.member_status(8082) == "ONLINE", "the member is ONLINE")
    server.silence(8082)
    eventually(lambda: balancer.member_status(8082) == "ERROR", "the member is in ERROR")
    await_served(outside, "8081")
    server.serve(8082)
    eventually(lambda: balancer.member_status(8082) == "ONLINE", "the member is ONLINE again")
    await_served(outside, "8081", "8082")


def test_a_member_on_another_network_is_reached_by_a_port_that_comes_and_goes_with_it(
    tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str], server: TenantServer
) -> None:
    tavia, (balancer, outside) = tavia_of_the_session, web
    (amphora,) = balancer.await_whole()
    with tavia.tenant.second_network("tavia-test-second", server) as (subnet, address), asking(outside) as seen:
        balancer.add_member(address, 8083, subnet)
        eventually(lambda: "8083" in seen.answers, "the member serves")
        ports = list(tavia.cloud.admin.network.ports(device_id=amphora["compute_id"], fixed_ips=f"subnet_id={subnet}"))
        assert len(ports) == 1, ports
        balancer.remove_member(8083)
        network = tavia.cloud.admin.network
        eventually(lambda: is_gone(lambda: network.get_port(ports[0].id)), "its port is gone")
    assert seen.failures == []
    await_served(outside, "8081", "8082")


def test_a_failover_on_request_makes_another_server_that_serves(
    tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str]
) -> None:
    balancer, outside = web
    old = balancer.await_whole()
    tavia_of_the_session.api.call("PUT", f"/lbaas/loadbalancers/{balancer.id}/failover")
    (new,) = balancer.await_whole(lost=old)
    assert new["compute_id"] != old[0]["compute_id"]
    await_served(outside, "8081", "8082")
    compute = tavia_of_the_session.cloud.admin.compute
    eventually(lambda: is_gone(lambda: compute.get_server(old[0]["compute_id"])), "the old server is gone")


def test_its_amphora_is_outdated_from_when_a_newer_image_has_the_tag(
    tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str], amphora_tag: str
) -> None:
    (amphora,) = web[0].await_whole()

    def outdated() -> set[str]:
        return {
            row["id"]
            for row in json.loads(tavia_of_the_session.worker.tavia("amphora", "list", "--outdated", "-f", "json"))
        }

    assert outdated() == set()
    with tavia_of_the_session.cloud.image("tavia-test-newer", amphora_tag):
        assert outdated() == {amphora["id"]}
    assert outdated() == set()


def test_a_server_killed_behind_novas_back_is_repaired(
    tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str]
) -> None:
    if not tavia_of_the_session.cloud.shows_processes:
        pytest.skip("servers of this cloud are no processes of this machine")
    balancer, outside = web
    (amphora,) = balancer.await_whole()
    tavia_of_the_session.cloud.kill_server(amphora["compute_id"])
    eventually(lambda: ask(outside) is None, "nobody answers")
    await_served(outside, "8081", "8082", seconds=BOOT_SECONDS)
    balancer.await_whole()


def test_a_server_deleted_in_nova_is_replaced(tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str]) -> None:
    balancer, outside = web
    old = balancer.await_whole()
    tavia_of_the_session.cloud.admin.compute.delete_server(old[0]["compute_id"])
    balancer.await_whole(lost=old)
    await_served(outside, "8081", "8082")


def test_deleting_it_leaves_nothing(tavia_of_the_session: TaviaOnCloud, web: tuple[Served, str]) -> None:
    balancer, _ = web
    tavia = tavia_of_the_session
    tavia.tenant.openstack("loadbalancer", "delete", "--cascade", "--wait", balancer.name)
    began = time.monotonic()
    eventually(lambda: not tavia.left(), "nothing of it is left on the cloud", 60)
    assert time.monotonic() - began < 60
