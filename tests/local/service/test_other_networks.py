"""Members on networks of their own: the amphorae are plugged into those as members come, and unplugged as they go."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from instance import Balancer, Instance, Member, eventually


@dataclass
class Elsewhere:
    """A network that the VIP is not on, with one member; its name is the member's."""

    instance: Instance
    name: str
    cidr: str

    def __post_init__(self) -> None:
        cloud = self.instance.cloud
        network = cloud.create_network(name=f"{self.name}-net", cidr=self.cidr)
        self.network_id, self.subnet_id = network.id, network.subnet_ids[0]
        self.address = str(ipaddress.ip_network(self.cidr)[240])
        self.member = Member(self.name, cloud.attach_host(self.name, network.id, self.address), self.address)

    def body(self) -> dict[str, object]:
        place = {"address": self.address, "protocol_port": self.member.port, "subnet_id": self.subnet_id}
        return {"name": self.name} | place

    def plugged(self, balancer: Balancer) -> int:
        """How many amphorae have a port there, by the cloud's word."""
        servers = {server.id for server in balancer.owned_servers()}
        return sum(p.network_id == self.network_id and p.device_id in servers for p in balancer.owned_ports())

    def remove(self) -> None:
        self.member.close()
        self.instance.cloud.detach_host(self.name)
        self.instance.cloud.delete_network(self.network_id)


@pytest.fixture
def blue(instance: Instance) -> Iterator[Elsewhere]:
    made = Elsewhere(instance, f"blue{uuid.uuid4().hex[:4]}", "10.77.0.0/24")
    yield made
    made.remove()


@pytest.fixture
def balancer(instance: Instance, blue: Elsewhere) -> Iterator[Balancer]:
    del blue  # its network goes after the load balancer
    made = instance.balancer("members elsewhere")
    made.await_active()
    made.await_served_by("red", "green")
    yield made
    made.change("DELETE", f"loadbalancers/{made.id}?cascade=true")
    eventually(lambda: not made.owned_ports(), "all its ports are gone")


def test_a_member_on_another_network_is_served_until_it_goes(
    instance: Instance, balancer: Balancer, blue: Elsewhere
) -> None:
    with instance.traffic(balancer) as seen:
        added = balancer.change("POST", f"pools/{balancer.pool_id}/members", member=blue.body())["member"]
        balancer.await_served_by("red", "green", blue.name)
        balancer.await_active()
        assert blue.plugged(balancer) == 2
        balancer.change("DELETE", f"pools/{balancer.pool_id}/members/{added['id']}")
        balancer.await_served_by("red", "green")
        eventually(lambda: blue.plugged(balancer) == 0, "both amphorae are unplugged")
    assert seen.failures == []


def test_a_replacement_and_one_that_comes_back_from_a_power_cut_serve_it_too(
    instance: Instance, balancer: Balancer, blue: Elsewhere
) -> None:
    balancer.change("POST", f"pools/{balancer.pool_id}/members", member=blue.body())
    balancer.await_served_by("red", "green", blue.name)
    before = {amphora["id"] for amphora in balancer.amphorae()}
    balancer.change("PUT", f"loadbalancers/{balancer.id}/failover")
    eventually(lambda: balancer.is_active() and not before & {a["id"] for a in balancer.amphorae()}, "it is replaced")
    balancer.await_served_by("red", "green", blue.name)
    assert blue.plugged(balancer) == 2

    for amphora in balancer.amphorae():
        instance.kill(instance.pid_one(amphora))
        instance.cloud.power_on(amphora["compute_id"])
    balancer.await_served_by("red", "green", blue.name)
