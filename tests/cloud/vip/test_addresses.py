"""Where a VIP is: on a port that Tavia makes for the tenant, where the tenant wants it."""

from __future__ import annotations

import ipaddress

import pytest
from vip_stand import FIRST_CIDR, SECOND_CIDR, VipStand, addresses, await_gone, project, refusal

NOWHERE = "11111111-2222-4333-8444-555555555555"


def test_a_subnet_is_enough_for_a_vip_on_a_new_port_that_goes_with_it(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first)
    port = stand.vip_port(made)
    assert addresses(port) == {stand.first: made["vip_address"]}
    assert ipaddress.ip_address(made["vip_address"]) in ipaddress.ip_network(FIRST_CIDR)
    assert (port.network_id, made["vip_network_id"]) == (stand.network, stand.network)
    assert (port.project_id, port.device_owner) == (stand.tavia.tenant.project_id, "Octavia")
    assert port.device_id == f"lb-{made['id']}"
    assert not port.is_admin_state_up, "it answers ARP in the amphorae's place"
    mine = stand.ports()
    assert mine == {port.id, *(each.id for each in stand.amphora_ports(made["id"]))}
    stand.tavia.delete(made["id"])
    await_gone(stand, sorted(mine))


def test_a_network_alone_gives_one_of_its_subnets(stand: VipStand) -> None:
    made = stand.create(vip_network_id=stand.network)
    assert made["vip_subnet_id"] in (stand.first, stand.second)
    assert addresses(stand.vip_port(made)) == {made["vip_subnet_id"]: made["vip_address"]}


@pytest.mark.parametrize("source", ["vip_subnet_id", "vip_network_id"])
def test_a_wanted_address_is_given(stand: VipStand, source: str) -> None:
    """Of a network it chooses the subnet."""
    where = {"vip_subnet_id": stand.second, "vip_network_id": stand.network}[source]
    made = stand.create(**{source: where}, vip_address="203.0.113.77")
    assert (made["vip_address"], made["vip_subnet_id"]) == ("203.0.113.77", stand.second)
    assert addresses(stand.vip_port(made)) == {stand.second: "203.0.113.77"}


def test_an_address_outside_the_subnet_is_refused_and_leaves_nothing(stand: VipStand) -> None:
    assert stand.refused(vip_subnet_id=stand.first, vip_address="203.0.113.77") == (
        400,
        f"Validation failure: VIP address 203.0.113.77 is not an address of subnet {stand.first} ({FIRST_CIDR}).",
    )


def test_an_address_that_is_taken_is_refused_and_leaves_nothing(stand: VipStand) -> None:
    with stand.port(stand.first) as taken:
        address = addresses(taken)[stand.first]
        told = stand.refused(vip_subnet_id=stand.first, vip_address=address)
    assert told == (409, f"VIP address already in use: {address}")


def test_an_additional_vip_that_cannot_be_is_refused_and_leaves_nothing(stand: VipStand) -> None:
    with stand.port(stand.second) as taken:
        address = addresses(taken)[stand.second]
        for additional, status, gist in (
            ({"subnet_id": stand.second, "ip_address": address}, 409, address),
            ({"subnet_id": stand.second, "ip_address": "198.51.100.9"}, 400, f"{stand.second} ({SECOND_CIDR})"),
            ({"subnet_id": stand.first}, 400, "Only one IP can be bound per subnet."),
            ({"subnet_id": stand.members}, 400, "All VIP subnets must belong to the same network."),
            ({"subnet_id": NOWHERE}, 400, f"Subnet {NOWHERE} not found."),
        ):
            told = stand.refused(vip_subnet_id=stand.first, additional_vips=[additional])
            assert told[0] == status, told
            assert gist in told[1]


def test_a_tenant_at_the_quota_of_ports_is_told_so_until_it_is_raised(stand: VipStand, unique: str) -> None:
    with project(stand.tavia, unique, ports=0) as project_id:
        body = {"vip_subnet_id": stand.first, "project_id": project_id}
        status, fault = refusal(stand.tavia.api, body)
        assert status == 403
        assert fault.startswith("Quota has been met for resources: Port. Neutron says: Quota exceeded")
        assert stand.tavia.left() == []
        stand.neutron.update_quota(project_id, ports=1)
        made = stand.tavia.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})["loadbalancer"]
        assert stand.vip_port(stand.settled(made["id"])).project_id == project_id
