"""Ports of an amphora beside the usual ones, and the VIP's port: what is plugged, guarded, lost and found again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update
from world import World

from tavia.cloud.protocols import AddressRefused, NotFound, PortSpec, ServerStatus
from tavia.model.resources import LoadBalancer, Member, Pool
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus, Topology
from tavia.store import intents, schema
from tavia.store.clock import now

MakeWorld = Callable[..., World]
ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR


def serving(world: World, **values: Any) -> LoadBalancer:
    loadbalancer = world.create(**values)
    world.converge(loadbalancer)
    assert world.tree(loadbalancer).loadbalancer.provisioning_status is ACTIVE
    return loadbalancer


def add_members(world: World, loadbalancer: LoadBalancer, *subnet_ids: str) -> list[Member]:
    pool = world.tree(loadbalancer).of(Pool)[0]
    added = [world.member(pool, number, subnet_id) for number, subnet_id in enumerate(subnet_ids, start=10)]
    world.change(loadbalancer, lambda conn, g: intents.add_all(conn, added, g))
    return added


def shown(world: World, loadbalancer: LoadBalancer) -> tuple[ProvisioningStatus, str | None]:
    row = world.tree(loadbalancer).loadbalancer
    return row.provisioning_status, row.fault["code"] if row.fault else None


def interfaces(world: World, loadbalancer: LoadBalancer) -> list[str]:
    (amphora,) = world.tree(loadbalancer).amphorae
    return [interface.name for interface in world.bundles[amphora.id].interfaces]


def again(world: World, loadbalancer: LoadBalancer) -> None:
    world.look_again(loadbalancer)
    world.converge(loadbalancer)


def no_subnet(world: World, lost: str, failure: SeamError) -> None:
    subnet = world.networking.subnet

    def subnet_or_failure(subnet_id: str, network_id: str | None = None) -> Any:
        if subnet_id == lost:
            raise failure
        return subnet(subnet_id, network_id)

    world.networking.subnet = subnet_or_failure  # type: ignore[method-assign]


def test_interfaces_keep_their_names_as_subnets_come_and_go(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)
    one, _ = add_members(world, lb, "a-subnet", "b-subnet")
    world.converge(lb)
    assert interfaces(world, lb) == ["eth1", "eth2", "eth3"]
    world.change(lb, lambda conn, g: intents.mark_deleted(conn, Member, [one.id], g))
    world.converge(lb)
    assert interfaces(world, lb) == ["eth1", "eth3"]
    add_members(world, lb, "c-subnet")
    world.converge(lb)
    assert sorted(interfaces(world, lb)) == ["eth1", "eth2", "eth3"]


def test_members_on_the_vips_subnet_or_on_none_take_no_port(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world, member_subnet_id="vip-subnet")
    assert interfaces(world, lb) == ["eth1"]
    assert len(world.networking.found) == 3


def test_a_subnet_that_cannot_be_plugged_is_told_and_keeps_no_other_member_from_being_served(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    lb = serving(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.networking, "subnet", world.networking.subnet)
        no_subnet(world, "gone-subnet", NotFound("subnet", "gone-subnet"))
        here, there = add_members(world, lb, "a-subnet", "gone-subnet")
        world.converge(lb)
        tree = world.tree(lb)
        assert shown(world, lb) == (ACTIVE, "not-found")
        assert "gone-subnet" in (tree.loadbalancer.fault or {})["message"]
        assert {m.provisioning_status for m in tree.of(Member) if m.id in (here.id, there.id)} == {ACTIVE}
        assert interfaces(world, lb) == ["eth1", "eth2"]
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert interfaces(world, lb) == ["eth1", "eth2", "eth3"]


def test_what_cannot_be_unplugged_keeps_nobody_waiting(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world, member_subnet_id="a-subnet")
    gone = [member.id for member in world.tree(lb).of(Member)]

    def down(*_: Any) -> Any:
        raise SeamError(Seam.BOOT, "nova-down", "503")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.compute, "detach_port", down)
        world.change(lb, lambda conn, g: intents.mark_deleted(conn, Member, gone, g))
        world.converge(lb, passes=1)
        assert shown(world, lb) == (ACTIVE, "nova-down")
        assert world.tree(lb).of(Member) == ()
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert len(world.networking.found) == 3


def test_an_amphora_boots_without_a_subnet_that_is_gone(make_world: MakeWorld) -> None:
    world = make_world()
    no_subnet(world, "gone-subnet", NotFound("subnet", "gone-subnet"))
    lb = world.create("gone-subnet")
    world.converge(lb)
    assert shown(world, lb) == (ACTIVE, "not-found")


def test_a_vip_port_of_ours_that_somebody_deleted_is_made_again_with_its_address(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = serving(world)
    world.networking.lose(lb.vip_port_id or "")
    world.change(lb, lambda conn, g: intents.add(conn, world.listener(lb, 81, None), g))
    world.converge(lb)
    tree = world.tree(lb)
    new = world.networking.port(tree.loadbalancer.vip_port_id or "")
    assert [fixed.ip_address for fixed in new.fixed_ips] == [lb.vip_address]
    assert {a.ha_port_id for a in tree.amphorae} == {new.id}
    assert shown(world, lb) == (ACTIVE, None)


def test_amphorae_that_are_made_with_it_know_the_new_one(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = serving(world)
    world.networking.lose(lb.vip_port_id or "")
    world.failover(lb)
    world.converge(lb)
    tree = world.tree(lb)
    assert tree.loadbalancer.vip_port_id != lb.vip_port_id
    assert {a.ha_port_id for a in tree.amphorae} == {tree.loadbalancer.vip_port_id}


def test_one_whose_address_was_taken_meanwhile_is_told_of(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)
    world.networking.lose(lb.vip_port_id or "")

    def taken(_spec: PortSpec) -> Any:
        raise AddressRefused("address-in-use", "it is in use by port X")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.networking, "create_port", taken)
        world.failover(lb)
        world.converge(lb)
        assert shown(world, lb) == (ACTIVE, "vip-port-gone"), "the amphora serves on"
        assert "port X" in (world.tree(lb).loadbalancer.fault or {})["message"]
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)


def test_one_that_was_the_tenants_is_told_of_and_not_made_again(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world, vip_port_ours=False)
    world.networking.lose(lb.vip_port_id or "")
    world.change(lb, lambda conn, g: intents.add(conn, world.listener(lb, 81, None), g))
    world.converge(lb)
    assert shown(world, lb) == (ERROR, "vip-port-gone")
    assert str(lb.vip_port_id) in (world.tree(lb).loadbalancer.fault or {})["message"]


def test_a_tenants_port_gets_our_group_beside_its_own_and_loses_it_at_the_end(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create(vip_port_ours=False)
    groups = world.networking.groups_of[lb.vip_port_id or ""]
    groups.add("the tenant's")
    world.converge(lb)
    assert groups == {"the tenant's", f"lb-{lb.id}"}
    world.delete(lb)
    world.converge(lb)
    assert groups == {"the tenant's"}
    assert list(world.networking.found) == [lb.vip_port_id]
    assert not world.networking.groups


def test_nothing_is_said_of_a_listener_whose_port_could_not_be_opened(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)

    def down(*_: Any) -> Any:
        raise SeamError(Seam.BOOT, "neutron-unreachable", "connection refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.networking, "ensure_security_group", down)
        listener = world.listener(lb, 81, None)
        world.change(lb, lambda conn, g: intents.add(conn, listener, g))
        world.converge(lb, passes=1)
        assert shown(world, lb) == (ProvisioningStatus.PENDING_UPDATE, "neutron-unreachable")
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    (rules,) = world.networking.groups.values()
    assert {rule.port for rule in rules} == {80, 81}


def test_a_change_of_members_does_not_ask_for_the_security_group(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)
    world.switch.arm()
    add_members(world, lb, "vip-subnet")
    world.converge(lb)
    assert {name for name in world.switch.names if name != "transaction"} == {"put-bundle"}


def change_policy(world: World, lb: LoadBalancer, policy_id: str | None) -> None:
    world.change(lb, lambda conn, g: intents.change(conn, LoadBalancer, [lb.id], g, vip_qos_policy_id=policy_id))


def test_a_qos_policy_is_on_each_vip_side_port_and_follows_the_load_balancer(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = serving(world, vip_qos_policy_id="slow")

    def policies() -> Sequence[str | None]:
        return [world.networking.qos_of.get(a.vrrp_port_id or "") for a in world.tree(lb).amphorae]

    assert policies() == ["slow", "slow"]
    for policy_id in ("fast", None):
        change_policy(world, lb, policy_id)
        world.converge(lb)
        assert policies() == [policy_id, policy_id]


def test_an_additional_vip_is_allowed_and_addressed_on_the_amphoras_port(make_world: MakeWorld) -> None:
    world = make_world()
    further = [{"subnet_id": "six-subnet", "ip_address": "198.19.0.250"}]
    lb = serving(world, additional_vips=further)
    (amphora,) = world.tree(lb).amphorae
    port = world.networking.port(amphora.vrrp_port_id or "")
    assert port.allowed_addresses == {lb.vip_address, "198.19.0.250"}
    (interface,) = world.bundles[amphora.id].interfaces
    assert interface.vips == (f"{lb.vip_address}/32", "198.19.0.250/32")
    assert interface.addresses == tuple(f"{fixed.ip_address}/24" for fixed in port.fixed_ips)
    assert len(interface.addresses) == 2


def test_what_was_made_for_a_boot_that_cannot_be_is_there_for_the_next_try(make_world: MakeWorld) -> None:
    world = make_world()
    no_image = SeamError(Seam.BOOT, "no-image", "no image has the tag amphora", permanent=True)

    def image_id(*_: Any) -> str:
        raise no_image

    controller = world.controller
    lb = world.create()

    def without_image() -> Any:
        made = controller()
        steps: Any = made.steps
        steps._boots._cloud = replace(steps._boots._cloud, images=type("Images", (), {"image_id": image_id})())
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "controller", without_image)
        world.converge(lb, passes=1)
    assert shown(world, lb) == (ERROR, "no-image")
    (amphora,), ports = world.tree(lb).amphorae, set(world.networking.found)
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert [a.id for a in world.tree(lb).amphorae] == [amphora.id]
    assert set(world.networking.found) == ports


def test_no_more_amphorae_boot_at_a_time_than_build_rate_limit(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    world.build_rate_limit = 1
    lb, other = world.create(), world.create()
    world.compute.boots_to = ServerStatus.BUILDING
    for _ in range(3):
        for each in (lb, other):
            world.look_again(each)
            world.converge(each, passes=1)
    assert len(world.compute.boots) == 1
    with world.database.read() as conn:
        assert set(conn.execute(select(schema.lease.c.owner)).scalars()) == {""}, "no lease is held meanwhile"
        table = schema.load_balancer.c
        again_in = {row[0]: row[1] for row in conn.execute(select(table.id, table.due_at - now()))}
    assert again_in[lb.id] <= 0.5, "it boots"
    assert 3.0 < again_in[other.id] <= 5.0, "it waits for its turn"
    world.compute.boots_to = ServerStatus.ACTIVE
    for server_id in world.compute.found:
        world.compute.power_on(server_id)
    for _ in range(3):
        for each in (lb, other):
            world.look_again(each)
            world.converge(each)
    assert len(world.compute.boots) == 4
    assert [shown(world, each) for each in (lb, other)] == [(ACTIVE, None)] * 2


def test_a_boot_network_without_a_subnet_is_named(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    network = world.networking.network
    world.networking.network = lambda network_id: replace(network(network_id), subnet_ids=())  # type: ignore[method-assign]
    world.converge(lb)
    fault = world.tree(lb).loadbalancer.fault or {}
    assert (fault["code"], fault["seam"]) == ("no-boot-subnet", "control")
    assert "mgmt-net" in fault["message"]


def test_a_pair_gets_a_server_group_a_single_amphora_none(make_world: MakeWorld) -> None:
    pair, single = make_world(Topology.ACTIVE_STANDBY), make_world()
    lb = serving(pair)
    assert pair.compute.groups == {f"octavia-lb-{lb.id}": "anti-affinity"}
    serving(single)
    assert single.compute.groups == {}
    pair.delete(lb)
    pair.converge(lb)
    assert pair.compute.groups == {}


def test_a_server_that_never_runs_is_given_up_with_what_compute_says(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    world.sql(update(schema.amphora).values(boot_started_at=now() - 301.0))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert shown(world, lb)[1] == "server-never-active"
    assert "BUILDING" in (world.tree(lb).loadbalancer.fault or {})["message"]
    assert not world.compute.found


def test_an_agent_that_never_answers_has_its_own_code_and_says_what_to_check(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.cut_off = {"*"}
    world.converge(lb, passes=1)
    (amphora,) = world.tree(lb).amphorae
    assert amphora.active_at
    world.sql(update(schema.amphora).values(active_at=now() - 601.0))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert shown(world, lb)[1] == "agent-connect-refused"
    assert "console log" in (world.tree(lb).loadbalancer.fault or {})["message"]


def test_compute_is_asked_of_a_server_that_runs_about_once_in_an_interval(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.cut_off = {"*"}
    world.converge(lb, passes=1)
    asked: list[str] = []
    server = world.compute.server

    def counted(server_id: str) -> Any:
        asked.append(server_id)
        return server(server_id)

    world.compute.server = counted  # type: ignore[method-assign]
    for active_for, times in ((12.5, 0), (15.2, 1)):
        world.sql(update(schema.amphora).values(active_at=now() - active_for))
        world.look_again(lb)
        world.converge(lb, passes=1)
        assert len(asked) == times


def test_one_that_is_replaced_while_it_boots_does_not_keep_its_successor_from_booting(make_world: MakeWorld) -> None:
    world = make_world()
    world.build_rate_limit = 1
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    world.failover(lb)
    world.converge(lb, passes=1)
    assert len(world.compute.boots) == 2


def test_a_server_that_runs_takes_no_turn_of_those_that_compute_still_builds(make_world: MakeWorld) -> None:
    world = make_world()
    world.build_rate_limit = 1
    lb, other = serving(world), world.create()
    world.compute.on_silent_hosts = set(world.compute.found)
    world.failover(lb)
    world.converge(lb, passes=1)
    assert len(world.compute.boots) == 2, "the successor is up, and must not take the VIP"
    world.converge(other)
    assert shown(world, other) == (ACTIVE, None)


def test_a_boot_that_compute_did_not_take_on_gives_its_turn_to_others(make_world: MakeWorld) -> None:
    world = make_world()
    world.build_rate_limit = 1
    lb, other = world.create(), world.create()

    def down(_: Any) -> Any:
        raise SeamError(Seam.BOOT, "nova-refused", "not this one")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.compute, "boot", down)
        world.converge(lb, passes=1)
    world.converge(other)
    assert shown(world, other) == (ACTIVE, None)


def lose_member_port(world: World, lb: LoadBalancer, *, is_deleted: bool) -> str:
    """Somebody unplugs the first of an amphora's ports on members' subnets; returns its id."""
    (amphora,) = world.tree(lb).amphorae
    lost: str = amphora.member_ports[0]["port_id"]
    world.compute.detach_port(amphora.compute_id or "", lost)
    if is_deleted:
        world.networking.lose(lost)
    return lost


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_port_that_somebody_took_from_an_amphora_is_plugged_in_again(make_world: MakeWorld, is_deleted: bool) -> None:
    world = make_world()
    lb = serving(world)
    add_members(world, lb, "a-subnet", "b-subnet")
    world.converge(lb)
    lose_member_port(world, lb, is_deleted=is_deleted)
    add_members(world, lb, "vip-subnet")
    world.converge(lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert interfaces(world, lb) == ["eth1", "eth2", "eth3"]


def test_one_that_never_shows_in_the_amphora_keeps_no_other_member_from_being_served(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)
    add_members(world, lb, "a-subnet", "b-subnet")
    world.converge(lb)
    lose_member_port(world, lb, is_deleted=False)

    def not_seen_inside(server_id: str, port_id: str) -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.compute, "attach_port", not_seen_inside)
        add_members(world, lb, "vip-subnet")
        world.converge(lb, passes=1)
        assert shown(world, lb) == (ACTIVE, "interface-missing")
        assert interfaces(world, lb) == ["eth1", "eth3"]
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert interfaces(world, lb) == ["eth1", "eth2", "eth3"]


def test_an_amphora_that_serves_keeps_the_vip_until_it_is_off(make_world: MakeWorld) -> None:
    world = make_world()
    lb = serving(world)
    (old,) = world.tree(lb).amphorae

    def locked(server_id: str) -> None:
        raise SeamError(Seam.BOOT, "server-locked", f"server {server_id} is locked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.compute, "power_off", locked)
        world.failover(lb)
        world.converge(lb, passes=1)
        assert world.networking.port(old.vrrp_port_id or "").allowed_addresses == {lb.vip_address}
        assert len(world.tree(lb).amphorae) == 2
    again(world, lb)
    assert shown(world, lb) == (ACTIVE, None)
    assert old.id not in {a.id for a in world.tree(lb).amphorae}
