"""What a fence takes for proof, and from whom it takes the VIP (DESIGN section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from world import World

from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.statuses import ProvisioningStatus, Topology
from tavia.store import intents

MakeWorld = Callable[..., World]


def replaced(world: World, lb: LoadBalancer) -> Amphora:
    """Its one amphora, whose replacement was asked for."""
    (old,) = world.tree(lb).amphorae
    world.change(lb, lambda conn, generation: intents.replace_amphorae(conn, lb.id, generation, [old.id]))
    return old


def test_a_server_that_compute_does_not_list_is_asked_for_by_its_id(make_world: MakeWorld) -> None:
    """A cell that is down: its servers are in no list, and run."""
    world = make_world()
    lb = world.create()
    world.converge(lb)
    old = replaced(world, lb)
    world.compute.not_listed.add(old.compute_id or "")
    powered_off: list[str] = []
    delete = world.compute.delete

    def power_is_off(server_id: str) -> None:
        powered_off.extend([server_id] * (world.compute.found[server_id].status is ServerStatus.OFF))
        delete(server_id)

    world.compute.delete = power_is_off  # type: ignore[method-assign]
    world.converge(lb)
    assert powered_off == [old.compute_id]
    assert old.compute_id not in world.compute.found
    assert len(world.compute.found) == 1


def test_one_whose_tag_is_gone_from_its_port_loses_the_vip_all_the_same(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    old = replaced(world, lb)
    port_id = old.vrrp_port_id or ""
    world.networking.found[port_id] = dataclasses.replace(world.networking.found[port_id], tags=frozenset())
    world.converge(lb)
    assert not world.networking.found[port_id].allowed_addresses


@pytest.mark.parametrize(("others_state", "keeps_it"), [("BACKUP", True), ("MASTER", False)])
def test_one_that_cannot_be_fenced_loses_the_vip_only_where_its_peer_has_it(
    make_world: MakeWorld, others_state: str, keeps_it: bool
) -> None:
    """Its adverts go on without the VIP's address: a peer that hears them would stay BACKUP, and nobody serve."""
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old, other = world.tree(lb).amphorae
    world.hear(other, others_state)
    world.cut_off = {old.id}
    world.compute.on_silent_hosts = {old.compute_id or ""}
    world.change(lb, lambda conn, generation: intents.replace_amphorae(conn, lb.id, generation, [old.id]))
    world.converge(lb)
    assert bool(world.networking.port(old.vrrp_port_id or "").allowed_addresses) is keeps_it
    assert world.networking.port(other.vrrp_port_id or "").allowed_addresses


def test_a_single_amphora_that_cannot_be_fenced_keeps_the_vip(make_world: MakeWorld) -> None:
    """It may serve, and nobody else does: its successor may not start before it is proven off."""
    world = make_world()
    lb = world.create()
    world.converge(lb)
    old = replaced(world, lb)
    world.cut_off = {old.id}
    world.compute.on_silent_hosts = {old.compute_id or ""}
    world.converge(lb)
    assert world.fault(lb)["code"] == "server-not-off"
    assert world.networking.port(old.vrrp_port_id or "").allowed_addresses == {lb.vip_address}
    world.compute.on_silent_hosts.clear()
    world.look_again(lb)
    world.converge(lb)
    assert old.id not in {a.id for a in world.tree(lb).amphorae}
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
