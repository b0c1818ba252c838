"""Ports: found by their tags whatever happened in between, with just the addresses that were asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_stand import Stand

from tavia.cloud.protocols import AddressRefused, Cloud, NotFound, Port
from tavia.model.seams import SeamError

NOBODY = "11111111-2222-4333-8444-555555555555"

Make = Callable[..., Port]


def test_networks_and_subnets_are_as_neutron_has_them(stand: Stand, cloud: Cloud) -> None:
    network_id, subnet_id = stand.management
    network = cloud.networking.network(network_id)
    assert (network.name, network.subnet_ids) == ("lb-mgmt-net", (subnet_id,))
    assert network in cloud.networking.networks()
    assert network.mtu == stand.admin.network.get_network(network_id).mtu
    subnet = cloud.networking.subnet(subnet_id)
    assert (subnet.network_id, subnet.cidr) == (network_id, stand.admin.network.get_subnet(subnet_id).cidr)


def test_a_port_is_found_by_its_tags(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    port = make_port()
    (deployment,) = (tag for tag in stand.tags if tag.startswith("tavia-deployment"))
    assert cloud.networking.ports(stand.tags) == [port]
    assert cloud.networking.ports(frozenset({deployment})) == [port]
    assert cloud.networking.ports(frozenset({deployment, "tavia-amphora=another"})) == []
    assert port.tags == stand.tags
    assert cloud.networking.port(port.id) == port


@pytest.mark.parametrize("is_vip", [False, True])
def test_a_port_whose_maker_died_before_it_was_tagged_is_found_all_the_same(
    stand: Stand, cloud: Cloud, make_port: Make, is_vip: bool
) -> None:
    tenant = stand.admin.identity.find_project("demo").id if is_vip else None
    (deployment,) = (tag for tag in stand.tags if tag.startswith("tavia-deployment"))
    its_tags = frozenset({deployment, "tavia-loadbalancer=l"}) if is_vip else stand.tags
    port = make_port(is_vip=is_vip, project_id=tenant, tags=its_tags)
    try:
        stand.admin.network.set_tags(stand.admin.network.get_port(port.id), [])
        for tags in (its_tags, frozenset({deployment})):
            assert [(found.id, found.tags) for found in cloud.networking.ports(tags)] == [(port.id, its_tags)]
    finally:
        cloud.networking.delete_port(port.id)


def test_a_vips_port_is_the_tenants_and_looks_like_octavias(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    tenant = stand.admin.identity.find_project("demo").id
    (deployment,) = (tag for tag in stand.tags if tag.startswith("tavia-deployment"))
    its_tags = frozenset({deployment, "tavia-loadbalancer=l"})
    port = make_port(is_vip=True, project_id=tenant, device_id="lb-1", tags=its_tags)
    try:
        neutrons = stand.admin.network.get_port(port.id)
        assert (neutrons.project_id, neutrons.device_owner, neutrons.device_id) == (tenant, "Octavia", "lb-1")
        assert not neutrons.is_admin_state_up
        assert cloud.networking.ports(its_tags) == [port]
    finally:
        cloud.networking.delete_port(port.id)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_port_that_a_tenant_makes_look_like_an_amphoras_is_not_taken_for_one(
    stand: Stand, cloud: Cloud, make_port: Make, tagged: bool
) -> None:
    """Owners of a network see the ports on it, with their names and tags."""
    tenant = stand.admin.identity.find_project("demo").id
    (deployment,) = (tag for tag in stand.tags if tag.startswith("tavia-deployment"))
    forged = make_port(project_id=tenant, is_vip=True)
    try:
        if not tagged:
            stand.admin.network.set_tags(stand.admin.network.get_port(forged.id), [])
        for tags in (stand.tags, frozenset({deployment})):
            assert cloud.networking.ports(tags) == []
    finally:
        cloud.networking.delete_port(forged.id)


def test_a_wanted_address_is_given_or_the_reason_why_not(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    _, subnet_id = stand.tenants
    port = make_port()
    address = port.fixed_ips[0].ip_address
    for wanted, code in ((address, "address-in-use"), ("192.0.2.1", "address-outside-subnet")):
        with pytest.raises(AddressRefused) as refused:
            make_port(fixed_ips=[(subnet_id, wanted)])
        assert (refused.value.code, refused.value.permanent) == (code, True)
        assert wanted in refused.value.message
    cloud.networking.delete_port(port.id)
    assert make_port(fixed_ips=[(subnet_id, address)]).fixed_ips[0].ip_address == address


def test_a_subnet_of_another_network_is_refused(stand: Stand, make_port: Make) -> None:
    _, elsewhere = stand.management
    with pytest.raises(AddressRefused) as refused:
        make_port(fixed_ips=[(elsewhere, None)])
    assert refused.value.code == "address-outside-subnet"


def test_a_subnet_without_a_free_address_is_full(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    admin = stand.admin.network
    network = admin.create_network(name="tavia-full", project_id=stand.project_id)
    try:
        subnet = admin.create_subnet(network_id=network.id, cidr="198.51.100.0/30", ip_version=4, enable_dhcp=False)
        port = make_port(network_id=network.id, fixed_ips=[(subnet.id, None)])
        with pytest.raises(AddressRefused) as refused:
            make_port(network_id=network.id, fixed_ips=[(subnet.id, None)])
        assert refused.value.code == "subnet-full"
        cloud.networking.delete_port(port.id)
    finally:
        for port in admin.ports(network_id=network.id):
            admin.delete_port(port)
        admin.delete_network(network)


def test_allowed_addresses_are_replaced(cloud: Cloud, make_port: Make) -> None:
    port = make_port(allowed_addresses=frozenset({"10.60.0.201"}))
    assert port.allowed_addresses == {"10.60.0.201"}
    for addresses in (frozenset({"10.60.0.202", "2001:db8::5"}), frozenset[str]()):
        cloud.networking.set_allowed_addresses(port.id, addresses)
        assert cloud.networking.port(port.id).allowed_addresses == addresses


def test_a_port_without_security_groups_of_its_own_has_the_projects_default(
    stand: Stand, cloud: Cloud, make_port: Make
) -> None:
    group = cloud.networking.ensure_security_group("g", stand.tags, frozenset())
    with_default, with_one = make_port(), make_port(security_group_ids=[group])
    assert stand.admin.network.get_port(with_one.id).security_group_ids == [group]
    (default,) = stand.admin.network.get_port(with_default.id).security_group_ids
    assert stand.admin.network.get_security_group(default).name == "default"


def test_what_is_gone_is_not_found_and_a_removal_is_done(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    networking = cloud.networking
    port = make_port()
    networking.delete_port(port.id)
    networking.delete_port(port.id)
    networking.ensure_security_group("g", stand.tags, frozenset())
    networking.delete_security_group("g", stand.tags, port.id)
    kinds: dict[str, Callable[[], object]] = {
        "port": lambda: networking.port(port.id),
        "network": lambda: networking.network(port.id),
        "subnet": lambda: networking.subnet(port.id),
    }
    for what, call in kinds.items():
        with pytest.raises(NotFound) as missing:
            call()
        assert (missing.value.what, missing.value.object_id) == (what, port.id)
    calls: list[Callable[[], object]] = [
        lambda: networking.set_allowed_addresses(port.id, frozenset()),
        lambda: networking.add_security_group(port.id, NOBODY),
        lambda: networking.set_qos_policy(port.id, None),
        lambda: make_port(network_id=NOBODY),
        lambda: make_port(fixed_ips=[(NOBODY, None)]),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()


def test_a_qos_policy_is_given_and_taken(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    policy = stand.admin.network.create_qos_policy(name="tavia-driver", project_id=stand.project_id)
    port = make_port()
    assert cloud.networking.qos_policy_exists(policy.id)
    assert not cloud.networking.qos_policy_exists(NOBODY)
    cloud.networking.set_qos_policy(port.id, policy.id)
    assert stand.admin.network.get_port(port.id).qos_policy_id == policy.id
    cloud.networking.set_qos_policy(port.id, None)
    assert stand.admin.network.get_port(port.id).qos_policy_id is None
    with pytest.raises(NotFound, match="qos policy"):
        cloud.networking.set_qos_policy(port.id, NOBODY)


def test_the_quota_of_ports_is_named(stand: Stand, make_port: Make) -> None:
    with stand.quota("network", port=0), pytest.raises(SeamError) as refused:
        make_port()
    assert (refused.value.code, refused.value.permanent) == ("port-quota", True)
    assert "openstack quota set --ports" in refused.value.message
