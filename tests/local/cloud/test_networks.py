"""Networks, subnets, ports and attached hosts, as a client of the local cloud sees them."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest
from local_cloud import LocalCloud, eventually, within

from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.protocols import AddressRefused, NotFound, PortSpec
from tavia.model.seams import Seam, SeamError

MANAGEMENT, DEMO = "lb-mgmt-net", "demo-net"


def answers(namespace: str, address: str) -> bool:
    command = ["ping", "-c", "1", "-W", "1", address]
    return within(namespace, lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)


def test_a_new_cloud_has_the_management_network_and_one_for_the_demonstration(cloud: LocalCloud) -> None:
    assert {network.name for network in cloud.client.networks()} == {MANAGEMENT, DEMO}
    subnets = {subnet.name: (subnet.cidr, subnet.gateway_ip) for subnet in cloud.client.subnets()}
    assert subnets == {"lb-mgmt-subnet": ("198.18.0.0/18", None), "demo-subnet": ("198.19.0.0/24", "198.19.0.1")}


def test_nothing_is_added_to_the_machines_own_network(cloud: LocalCloud) -> None:
    cloud.boot()
    assert not cloud.interfaces() & {name for _, name in socket.if_nameindex()} - {"lo"}


def test_the_socket_is_for_root_only(cloud: LocalCloud) -> None:
    assert stat.S_IMODE(cloud.instance.socket.stat().st_mode) == 0o600


def test_an_address_given_again_is_reached_at_its_new_owner_at_once(cloud: LocalCloud) -> None:
    cloud.client.attach_host("other", cloud.network_id(DEMO))  # a bridge without ports forgets everybody
    for name in ("before", "after"):
        cloud.client.attach_host(name, cloud.network_id(DEMO), "198.19.0.77")
        assert answers(cloud.instance.fabric, "198.19.0.77")
        cloud.client.detach_host(name)


def test_a_network_is_made_seen_and_deleted(cloud: LocalCloud) -> None:
    network = cloud.client.create_network(name="tenant", cidr="10.1.0.0/24")
    assert cloud.client.network(network.id) == network
    subnet = cloud.client.subnet(network.subnet_ids[0])
    assert (subnet.cidr, subnet.gateway_ip, subnet.network_id) == ("10.1.0.0/24", "10.1.0.1", network.id)
    bridges = {name for name in cloud.interfaces() if name.startswith("brq")}
    cloud.client.delete_network(network.id)
    cloud.client.delete_network(network.id)
    assert len({name for name in cloud.interfaces() if name.startswith("brq")}) == len(bridges) - 1
    with pytest.raises(NotFound):
        cloud.client.network(network.id)
    with pytest.raises(NotFound):
        cloud.client.subnet(subnet.id)


def test_a_network_in_use_is_not_deleted(cloud: LocalCloud) -> None:
    cloud.port(DEMO)
    with pytest.raises(SeamError) as refused:
        cloud.client.delete_network(cloud.network_id(DEMO))
    assert refused.value.code == "network-in-use"


@pytest.mark.parametrize(
    ("cidr", "code"), [("198.19.0.128/25", "cidr-overlaps"), ("10.0.0.1/24", "cidr-invalid"), ("x", "cidr-invalid")]
)
def test_a_range_that_cannot_be_is_refused(cloud: LocalCloud, cidr: str, code: str) -> None:
    with pytest.raises(SeamError) as refused:
        cloud.client.create_network(name="tenant", cidr=cidr)
    assert refused.value.code == code
    assert len(cloud.client.networks()) == 2


def test_an_address_is_given_once_and_not_again_at_once(cloud: LocalCloud) -> None:
    first, second = cloud.port(DEMO), cloud.port(DEMO)
    cloud.client.delete_port(second.id)
    third = cloud.port(DEMO)
    assert len({port.fixed_ips[0].ip_address for port in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("198.19.0.1", "address-in-use"),
        ("198.19.0.0", "address-outside-subnet"),
        ("198.19.0.255", "address-outside-subnet"),
        ("10.0.0.1", "address-outside-subnet"),
    ],
)
def test_an_address_that_a_port_may_not_have_is_refused(cloud: LocalCloud, address: str, code: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        cloud.port(DEMO, address=address)
    assert refused.value.code == code


def test_a_taken_address_is_refused(cloud: LocalCloud) -> None:
    cloud.port(DEMO, address="198.19.0.50")
    with pytest.raises(AddressRefused) as refused:
        cloud.port(DEMO, address="198.19.0.50")
    assert refused.value.code == "address-in-use"


def test_a_full_subnet_is_refused(cloud: LocalCloud) -> None:
    cloud.client.create_network(name="small", cidr="10.9.0.0/30")
    cloud.port("small")
    with pytest.raises(AddressRefused) as refused:
        cloud.port("small")
    assert refused.value.code == "subnet-full"


def test_a_port_of_a_network_that_is_not_there_is_named(cloud: LocalCloud) -> None:
    with pytest.raises(NotFound) as missing:
        cloud.client.create_port(PortSpec(name="p", network_id="nowhere", fixed_ips=[], tags=frozenset()))
    assert (missing.value.what, missing.value.object_id) == ("network", "nowhere")


def test_a_subnet_of_another_network_is_not_taken(cloud: LocalCloud) -> None:
    subnet_id = cloud.client.network(cloud.network_id(MANAGEMENT)).subnet_ids[0]
    with pytest.raises(NotFound):
        cloud.client.create_port(
            PortSpec(name="p", network_id=cloud.network_id(DEMO), fixed_ips=[(subnet_id, None)], tags=frozenset())
        )


def test_ports_are_found_by_tags(cloud: LocalCloud) -> None:
    port = cloud.port(DEMO)
    assert cloud.client.ports(frozenset({"test"})) == [port]
    assert cloud.client.ports(frozenset({"test", "other"})) == []
    cloud.client.delete_port(port.id)
    cloud.client.delete_port(port.id)
    assert cloud.client.ports(frozenset({"test"})) == []


def test_hosts_of_one_network_reach_each_other_and_the_controllers_machine(cloud: LocalCloud) -> None:
    client = cloud.client.attach_host("client", cloud.network_id(DEMO))
    backend = cloud.client.attach_host("backend", cloud.network_id(DEMO), "198.19.0.80")
    assert answers(client, "198.19.0.80")
    assert answers(backend, "198.19.0.1")
    assert answers(cloud.instance.fabric, "198.19.0.80")


def test_a_tenants_host_does_not_reach_the_management_network(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    client = cloud.client.attach_host("client", cloud.network_id(DEMO))
    assert answers(client, "198.19.0.1")
    assert not answers(client, machine.address(0))
    assert not answers(client, "198.18.0.2")


def test_attaching_a_host_again_changes_nothing(cloud: LocalCloud) -> None:
    first = cloud.client.attach_host("backend", cloud.network_id(DEMO), "198.19.0.80")
    inode = (NETNS_DIR / first).stat().st_ino
    assert cloud.client.attach_host("backend", cloud.network_id(DEMO)) == first
    assert (NETNS_DIR / first).stat().st_ino == inode
    with pytest.raises(SeamError) as refused:
        cloud.client.attach_host("backend", cloud.network_id(DEMO), "198.19.0.81")
    assert refused.value.code == "host-exists"


def test_a_detached_host_is_gone_with_what_ran_on_it(cloud: LocalCloud) -> None:
    namespace = cloud.client.attach_host("backend", cloud.network_id(DEMO))
    with subprocess.Popen(["ip", "netns", "exec", namespace, "sleep", "60"]) as process:
        eventually(lambda: Path(f"/proc/{process.pid}/exe").readlink().name == "sleep", "sleep runs")
        try:
            cloud.client.detach_host("backend")
            assert process.wait(5) == -9
        finally:
            process.kill()
    cloud.client.detach_host("backend")
    assert not (NETNS_DIR / namespace).exists()
    assert "backend" not in {port.name for port in cloud.client.ports()}


def test_ipv6_subnets_work_the_same(cloud: LocalCloud) -> None:
    network = cloud.client.create_network(name="six", cidr="fd00:6::/64")
    one = cloud.client.attach_host("one", network.id, "fd00:6::10")
    cloud.client.attach_host("two", network.id, "fd00:6::20")
    eventually(lambda: answers(one, "fd00:6::20"), "the other host answers")
    eventually(lambda: answers(one, "fd00:6::1"), "the gateway answers")


def test_a_second_range_makes_a_network_dual_stack(cloud: LocalCloud) -> None:
    subnet = cloud.client.create_subnet(cloud.network_id(DEMO), cidr="fd00:d::/64", name="demo-subnet-6")
    network = cloud.client.network(cloud.network_id(DEMO))
    assert subnet.id in network.subnet_ids
    port = cloud.client.create_port(
        PortSpec(
            name="both",
            network_id=network.id,
            fixed_ips=[(each, None) for each in network.subnet_ids],
            tags=frozenset(),
        )
    )
    assert [ip.ip_address for ip in port.fixed_ips] == ["198.19.0.2", "fd00:d::2"]


def test_without_its_daemon_the_cloud_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(SeamError) as down:
        LocalClient(tmp_path / "local-cloud.sock").networks()
    assert (down.value.seam, down.value.code) == (Seam.BOOT, "local-cloud-down")
    assert "tavia up" in down.value.message
