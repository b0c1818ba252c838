"""Who may reach a VIP: what its listeners say, and nobody else."""

from __future__ import annotations

from instance import eventually
from vip_stand import LISTENER, PEERS, SECONDS, Rule, VipStand, await_gone


def anywhere(port: int) -> set[Rule]:
    return {(family, "tcp", port, "anywhere") for family in ("IPv4", "IPv6")}


def test_the_group_is_on_all_ports_of_the_vip_and_gone_at_the_end(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first, listeners=[LISTENER])
    (group,) = stand.groups(made["id"])
    ports = [stand.vip_port(made), *stand.amphora_ports(made["id"])]
    assert [port.security_group_ids.count(group) for port in ports] == [1, 1, 1]
    assert [port.security_group_ids for port in ports[1:]] == [[group], [group]]
    assert stand.neutron.get_security_group(group).project_id != stand.tavia.tenant.project_id
    stand.tavia.delete(made["id"])
    await_gone(stand, [port.id for port in ports])
    assert stand.groups(made["id"]) == []
    assert stand.tavia.left() == []


def test_it_lets_in_what_listeners_want_as_they_come_change_and_go(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first, additional_vips=[{"subnet_id": stand.sixth}])["id"]
    assert stand.lets_in(made) == PEERS
    web = stand.listen(made, 80)
    guarded = stand.listen(made, 8443, protocol="TCP", allowed_cidrs=["192.0.2.0/24", "2001:db8::/32"])
    stand.settled(made)
    cidrs: set[Rule] = {("IPv4", "tcp", 8443, "192.0.2.0/24"), ("IPv6", "tcp", 8443, "2001:db8::/32")}
    assert stand.lets_in(made) == PEERS | anywhere(80) | cidrs
    stand.put("listener", guarded, allowed_cidrs=["192.0.2.128/25"])
    stand.settled(made)
    assert stand.lets_in(made) == PEERS | anywhere(80) | {("IPv4", "tcp", 8443, "192.0.2.128/25")}
    stand.put("listener", guarded, allowed_cidrs=None)
    stand.put("listener", web, admin_state_up=False)
    stand.settled(made)
    assert stand.lets_in(made) == PEERS | anywhere(8443)
    stand.api.call("DELETE", f"/lbaas/listeners/{guarded}")
    stand.settled(made)
    assert stand.lets_in(made) == PEERS


def test_a_single_amphora_lets_in_nothing_but_what_listeners_want(stand: VipStand) -> None:
    with stand.tavia.topology("SINGLE"):
        made = stand.create(vip_subnet_id=stand.first, listeners=[LISTENER])
    assert stand.lets_in(made["id"]) == anywhere(80)


def test_a_group_that_somebody_deleted_from_neutron_is_made_again_with_the_next_change(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first, listeners=[LISTENER])
    (group,) = stand.groups(made["id"])
    ports = [made["vip_port_id"], *(port.id for port in stand.amphora_ports(made["id"]))]
    for port in ports:
        stand.neutron.update_port(port, security_group_ids=[])
    stand.neutron.delete_security_group(group)
    stand.listen(made["id"], 81)
    stand.settled(made["id"])
    (new,) = stand.groups(made["id"])
    assert stand.lets_in(made["id"]) == PEERS | anywhere(80) | anywhere(81)
    eventually(
        lambda: all(stand.neutron.get_port(port).security_group_ids == [new] for port in ports), "it is on all", SECONDS
    )
