"""A VIP's port that somebody deletes behind our back: what is ours is made again, what was the tenant's is missed."""

from __future__ import annotations

from vip_stand import LISTENER, SECONDS, VipStand, addresses, await_gone


def test_ours_is_made_again_with_all_its_addresses_and_the_group(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first, additional_vips=[{"subnet_id": stand.second}], listeners=[LISTENER])
    before = stand.vip_port(made)
    stand.neutron.delete_port(before.id)
    stand.listen(made["id"], 81)
    now = stand.settled(made["id"])
    assert now["vip_port_id"] != before.id
    assert (now["vip_address"], now["additional_vips"]) == (made["vip_address"], made["additional_vips"])
    port = stand.vip_port(now)
    assert addresses(port) == addresses(before)
    assert (port.project_id, port.device_owner, port.name) == (before.project_id, "Octavia", before.name)
    assert set(stand.groups(made["id"])) <= set(port.security_group_ids)
    stand.tavia.delete(made["id"])
    await_gone(stand, [port.id])


def test_a_failover_makes_it_again_too(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first)
    stand.neutron.delete_port(made["vip_port_id"])
    old = [port.id for port in stand.amphora_ports(made["id"])]
    stand.fail_over(made["id"])
    await_gone(stand, old)
    now = stand.settled(made["id"])
    assert addresses(stand.vip_port(now)) == {stand.first: made["vip_address"]}
    assert {row["ha_port_id"] for row in stand.tavia.amphorae(made["id"])} == {now["vip_port_id"]}


def test_one_whose_address_was_taken_is_told_of_until_it_is_free(stand: VipStand) -> None:
    made = stand.create(vip_subnet_id=stand.first)
    stand.neutron.delete_port(made["vip_port_id"])
    wanted = [{"subnet_id": stand.first, "ip_address": made["vip_address"]}]
    with stand.port(fixed_ips=wanted) as thief:
        stand.listen(made["id"], 80)
        fault = stand.tavia.await_status(made["id"], "ERROR", SECONDS)["fault"]
        assert (fault["seam"], fault["code"]) == ("boot", "vip-port-gone")
        assert "free its address" in fault["message"]
        stand.neutron.delete_port(thief.id)
        now = stand.settled(made["id"])
        assert addresses(stand.vip_port(now)) == {stand.first: made["vip_address"]}


def test_the_tenants_own_is_a_fault_and_the_load_balancer_can_be_deleted(stand: VipStand) -> None:
    with stand.port(stand.first) as port:
        made = stand.create(vip_port_id=port.id)
        stand.neutron.delete_port(port.id)
        stand.listen(made["id"], 80)
        fault = stand.tavia.await_status(made["id"], "ERROR", SECONDS)["fault"]
        assert (fault["seam"], fault["code"]) == ("boot", "vip-port-gone")
        assert port.id in fault["message"]
        assert "create it anew, on another port" in fault["message"]
        amphorae = [each.id for each in stand.amphora_ports(made["id"])]
        stand.tavia.delete(made["id"])
        await_gone(stand, amphorae)
        assert stand.tavia.left() == []
