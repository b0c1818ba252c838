"""A port that the tenant brings along is lent; and nobody brings along what they do not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from vip_stand import VipStand, addresses, await_gone, pairs, refusal


def test_a_tenants_port_has_our_group_beside_its_own_and_is_left_as_it_was(stand: VipStand) -> None:
    with stand.port(stand.first) as before:
        assert len(before.security_group_ids) == 1, "the tenant's default group"
        made = stand.create(vip_port_id=before.id)
        address = addresses(before)[stand.first]
        assert (made["vip_port_id"], made["vip_address"]) == (before.id, address)
        assert (made["vip_subnet_id"], made["vip_network_id"]) == (stand.first, stand.network)
        (group,) = stand.groups(made["id"])
        assert set(stand.vip_port(made).security_group_ids) == {*before.security_group_ids, group}
        amphorae = stand.amphora_ports(made["id"])
        assert [pairs(port) for port in amphorae] == [{address}, {address}]
        stand.tavia.delete(made["id"])
        await_gone(stand, [port.id for port in amphorae])
        after = stand.neutron.get_port(before.id)
        assert after.security_group_ids == before.security_group_ids
        assert (addresses(after), after.tags, after.device_id) == (addresses(before), [], "")
        assert (after.description, after.name) == (before.description, before.name)


def test_of_a_port_with_two_addresses_the_tenant_says_which_one_is_the_vip(stand: VipStand) -> None:
    with stand.port(stand.first, stand.second) as port:
        both = addresses(port)
        made = stand.create(
            vip_port_id=port.id, vip_subnet_id=stand.second, additional_vips=[{"subnet_id": stand.first}]
        )
        assert made["vip_address"] == both[stand.second]
        assert made["additional_vips"] == [{"subnet_id": stand.first, "ip_address": both[stand.first]}]
        assert [pairs(each) for each in stand.amphora_ports(made["id"])] == [set(both.values())] * 2


def test_a_port_is_one_load_balancers(stand: VipStand) -> None:
    with stand.port(stand.first) as port:
        stand.create(vip_port_id=port.id)
        told = refusal(stand.api, {"vip_port_id": port.id})
    assert told == (409, f"VIP address already in use: port {port.id} is a load balancer's")


def test_a_port_that_something_else_uses_is_refused(stand: VipStand) -> None:
    with stand.port(stand.first, device_id="a-server") as port:
        told = stand.refused(vip_port_id=port.id)
    assert told == (400, f"Validation failure: Port {port.id} is already used by device a-server.")


def test_a_qos_policy_that_the_tenants_port_has_is_the_load_balancers_unless_it_names_one(
    stand: VipStand, policies: tuple[str, str]
) -> None:
    mine, another = policies
    with stand.port(stand.first, qos_policy_id=mine) as port:
        for wanted, given in (({}, mine), ({"vip_qos_policy_id": another}, another)):
            made = stand.create(vip_port_id=port.id, **wanted)
            assert made["vip_qos_policy_id"] == given
            assert [each.qos_policy_id for each in stand.amphora_ports(made["id"])] == [given, given]
            stand.tavia.delete(made["id"])
        assert stand.neutron.get_port(port.id).qos_policy_id == mine, "the port is the tenant's"


@pytest.fixture(scope="module")
def hidden(stand_of_the_session: VipStand) -> Iterator[dict[str, str]]:
    """Ids of what the administrator's project has, which a tenant does not see."""
    neutron, name = stand_of_the_session.neutron, "tavia-test-hidden"
    with ExitStack() as cleanup:

        def kept(made: object, delete: Callable[..., object]) -> str:
            found = str(made.id)  # type: ignore[attr-defined]
            cleanup.callback(delete, found)
            return found

        network = kept(neutron.create_network(name=name), neutron.delete_network)
        subnet = neutron.create_subnet(network_id=network, ip_version=4, cidr="192.0.2.0/25", enable_dhcp=False)
        port = kept(neutron.create_port(network_id=network, name=name), neutron.delete_port)
        policy = kept(neutron.create_qos_policy(name=name), neutron.delete_qos_policy)
        cleanup.callback(stand_of_the_session.tavia.clear)
        yield {"Network": network, "Subnet": str(subnet.id), "Port": port, "QoS policy": policy}


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [
        ("Network", "vip_network_id"),
        ("Subnet", "vip_subnet_id"),
        ("Port", "vip_port_id"),
        ("QoS policy", "vip_qos_policy_id"),
    ],
)
def test_what_a_tenant_does_not_see_is_not_there_for_them_and_the_administrator_may_name_it(
    stand: VipStand, hidden: dict[str, str], kind: str, attribute: str
) -> None:
    body = {"vip_subnet_id": stand.first} if kind == "QoS policy" else {}
    body[attribute] = hidden[kind]
    assert stand.refused(**body) == (400, f"{kind} {hidden[kind]} not found.")
    made = stand.tavia.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})["loadbalancer"]
    assert stand.settled(made["id"])[attribute] == hidden[kind]


def test_a_tenant_does_not_put_a_policy_on_it_later_that_they_do_not_see(
    stand: VipStand, hidden: dict[str, str]
) -> None:
    made = stand.create(vip_subnet_id=stand.first)
    with pytest.raises(Exception, match=f"QoS policy {hidden['QoS policy']} not found"):
        stand.put("loadbalancer", made["id"], vip_qos_policy_id=hidden["QoS policy"])
    assert stand.settled(made["id"])["vip_qos_policy_id"] is None
