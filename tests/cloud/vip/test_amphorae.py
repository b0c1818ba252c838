"""What the ports of amphorae have: the right to send from the VIPs, a QoS policy, and ports where members are."""

from __future__ import annotations

from vip_stand import LISTENER, POOL, SECONDS, VipStand, addresses, await_gone, pairs


def test_amphorae_may_send_from_the_vip_and_the_additional_ones(stand: VipStand) -> None:
    wanted = [{"subnet_id": stand.second, "ip_address": "203.0.113.99"}, {"subnet_id": stand.sixth}]
    made = stand.create(vip_subnet_id=stand.first, additional_vips=wanted)
    vips = {
        stand.first: made["vip_address"],
        **{vip["subnet_id"]: vip["ip_address"] for vip in made["additional_vips"]},
    }
    assert vips[stand.second] == "203.0.113.99"
    assert vips.keys() == {stand.first, stand.second, stand.sixth}
    assert addresses(stand.vip_port(made)) == vips
    ports = stand.amphora_ports(made["id"])
    for port in ports:
        assert pairs(port) == set(vips.values())
        assert addresses(port).keys() == vips.keys(), "it has an address of its own on each"
        assert not set(addresses(port).values()) & set(vips.values())
        assert port.project_id != stand.tavia.tenant.project_id
    stand.tavia.delete(made["id"])
    await_gone(stand, [made["vip_port_id"], *(port.id for port in ports)])


def test_after_a_failover_the_new_ones_may_and_the_old_ones_are_gone(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first)
    old = [port.id for port in stand.amphora_ports(made["id"])]
    stand.fail_over(made["id"])
    await_gone(stand, old)
    stand.settled(made["id"])
    new = stand.amphora_ports(made["id"])
    assert [pairs(port) for port in new] == [{made["vip_address"]}] * 2
    assert not set(old) & {port.id for port in new}


def test_a_qos_policy_is_set_changed_and_taken_away_again(stand: VipStand, policies: tuple[str, str]) -> None:
    """On the amphorae's ports, as in Octavia: the VIP's own port carries no traffic."""
    made = stand.create(vip_subnet_id=stand.first, vip_qos_policy_id=policies[0])["id"]
    for policy in (*policies, None):
        stand.put("loadbalancer", made, vip_qos_policy_id=policy)
        shown = stand.settled(made)
        assert shown["vip_qos_policy_id"] == policy
        assert [port.qos_policy_id for port in stand.amphora_ports(made)] == [policy, policy]
        assert stand.vip_port(shown).qos_policy_id is None


def test_amphorae_that_replace_others_have_the_policy_too(stand: VipStand, policies: tuple[str, str]) -> None:
    made = stand.create(vip_subnet_id=stand.first, vip_qos_policy_id=policies[0])["id"]
    old = [port.id for port in stand.amphora_ports(made)]
    stand.fail_over(made)
    await_gone(stand, old)
    stand.settled(made)
    assert [port.qos_policy_id for port in stand.amphora_ports(made)] == [policies[0]] * 2


def members_ports(stand: VipStand) -> list[str]:
    return [port.id for port in stand.neutron.ports(fixed_ips=f"subnet_id={stand.members}")]


def test_ports_on_a_subnet_come_with_its_first_member_and_go_with_its_last(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first, listeners=[{**LISTENER, "default_pool": POOL}])["id"]
    (pool_id,) = (each["id"] for each in stand.api.call("GET", f"/lbaas/pools?loadbalancer_id={made}")["pools"])
    path = f"/lbaas/pools/{pool_id}/members"

    def add(address: str, subnet: str) -> str:
        member = {"address": address, "protocol_port": 80, "subnet_id": subnet}
        answer = stand.api.call("POST", path, {"member": member})
        stand.settled(made)
        return str(answer["member"]["id"])

    add("198.51.100.200", stand.first)
    assert members_ports(stand) == [], "the amphorae are on the VIP's subnet"
    member, another = add("192.0.2.10", stand.members), add("192.0.2.11", stand.members)
    plugged = members_ports(stand)
    devices = {row["id"] for row in stand.tavia.amphorae(made)}
    assert {name.partition("member-")[2][:36] for name in _names(stand, plugged)} == devices
    assert len(plugged) == 2
    stand.api.call("DELETE", f"{path}/{member}")
    stand.settled(made)
    assert members_ports(stand) == plugged
    stand.api.call("DELETE", f"{path}/{another}")
    stand.settled(made)
    await_gone(stand, plugged)
    assert members_ports(stand) == []


def _names(stand: VipStand, port_ids: list[str]) -> list[str]:
    return [stand.neutron.get_port(port_id).name for port_id in port_ids]


def test_a_load_balancer_that_is_deleted_takes_its_members_ports_along(stand: VipStand) -> None:
    member = {"address": "192.0.2.10", "protocol_port": 80, "subnet_id": stand.members}
    pool = {**POOL, "members": [member]}
    made = stand.create(vip_subnet_id=stand.first, listeners=[{**LISTENER, "default_pool": pool}])["id"]
    assert len(members_ports(stand)) == 2
    stand.tavia.delete(made, SECONDS)
    assert members_ports(stand) == []
