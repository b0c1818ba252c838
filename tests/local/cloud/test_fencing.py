"""Fencing is real: what runs behind a port cannot send from an address that is not the port's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from local_cloud import LocalCloud, Machine, eventually, within

from tavia.cloud.local.instance import NETNS_DIR

VIP = "198.19.0.100"


@pytest.fixture
def client(cloud: LocalCloud) -> str:
    """A host in the demo network, as a user of the VIP."""
    return cloud.client.attach_host("client", cloud.network_id("demo-net"), "198.19.0.10")


@pytest.fixture
def vip(cloud: LocalCloud) -> Iterator[Machine]:
    """A server whose second port may send from the VIP; it has the VIP on that interface."""
    yield with_vip(cloud, allowed=True)


def with_vip(cloud: LocalCloud, *, allowed: bool) -> Machine:
    port = cloud.port("demo-net", allowed=frozenset({VIP} if allowed else ()))
    machine = cloud.boot(cloud.port("lb-mgmt-net"), port)
    take(cloud, machine, VIP)
    return machine


def take(cloud: LocalCloud, machine: Machine, address: str) -> None:
    cloud.run(machine, f"ip link set eth1 up; ip addr add {machine.address(1)}/24 dev eth1")
    cloud.run(machine, f"ip addr add {address}/24 dev eth1; arping -U -c 1 -I eth1 {address}")


def reaches(namespace: str, address: str) -> bool:
    command = ["ping", "-c", "1", "-W", "1", address]
    return within(namespace, lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)


def forget_neighbours(namespace: str) -> None:
    subprocess.run(["ip", "-n", namespace, "neigh", "flush", "all"], check=True)


def test_an_allowed_address_serves(cloud: LocalCloud, client: str, vip: Machine) -> None:
    eventually(lambda: reaches(client, VIP), "the VIP answers the client")
    assert reaches(cloud.instance.fabric, VIP)


def test_taking_the_allowed_address_away_stops_its_traffic_at_once(
    cloud: LocalCloud, client: str, vip: Machine
) -> None:
    eventually(lambda: reaches(client, VIP), "the VIP answers the client")
    cloud.client.set_allowed_addresses(vip.ports[1].id, frozenset())
    assert not reaches(client, VIP)
    forget_neighbours(client)
    assert not reaches(client, VIP)
    assert reaches(client, vip.address(1))
    cloud.client.set_allowed_addresses(vip.ports[1].id, frozenset({VIP}))
    eventually(lambda: reaches(client, VIP), "given back, it answers again")


def test_a_fenced_server_cannot_take_the_vip_back_from_its_new_owner(
    cloud: LocalCloud, client: str, vip: Machine
) -> None:
    eventually(lambda: reaches(client, VIP), "the old owner answers")
    cloud.client.set_allowed_addresses(vip.ports[1].id, frozenset())
    new = with_vip(cloud, allowed=True)
    eventually(lambda: reaches(client, VIP), "the new owner answers")
    cloud.run(vip, f"arping -U -c 3 -I eth1 {VIP}; arping -A -c 3 -I eth1 {VIP}")
    neighbours = subprocess.run(["ip", "-n", client, "neigh"], capture_output=True, text=True, check=True).stdout
    assert f"{VIP} dev eth0 lladdr {new.ports[1].mac_address}" in neighbours
    assert reaches(client, VIP)


def test_another_mac_does_not_help(cloud: LocalCloud, client: str, vip: Machine) -> None:
    eventually(lambda: reaches(client, VIP), "the VIP answers the client")
    cloud.run(vip, "ip link set eth1 address 02:00:00:00:00:99")
    forget_neighbours(client)
    assert not reaches(client, VIP)


def test_an_ipv6_address_is_fenced_in_neighbour_discovery_too(cloud: LocalCloud) -> None:
    network = cloud.client.create_network(name="six", cidr="fd00:6::/64")
    client = cloud.client.attach_host("client6", network.id, "fd00:6::10")
    port = cloud.port("six", address="fd00:6::20")
    machine = cloud.boot(cloud.port("lb-mgmt-net"), port)
    cloud.run(machine, "ip link set eth1 up; ip addr add fd00:6::20/64 dev eth1 nodad")
    cloud.run(machine, "ip addr add fd00:6::99/64 dev eth1 nodad")
    eventually(lambda: reaches(client, "fd00:6::20"), "its own address answers")
    assert not reaches(client, "fd00:6::99")
    cloud.client.set_allowed_addresses(port.id, frozenset({"fd00:6::99"}))
    eventually(lambda: reaches(client, "fd00:6::99"), "allowed, it answers")


def test_fencing_holds_after_the_daemon_was_killed_and_started_again(
    cloud: LocalCloud, client: str, vip: Machine
) -> None:
    eventually(lambda: reaches(client, VIP), "the VIP answers the client")
    cloud.client.set_allowed_addresses(vip.ports[1].id, frozenset())
    cloud.restart()
    assert (NETNS_DIR / client).exists()
    assert reaches(client, vip.address(1))
    assert not reaches(client, VIP)
