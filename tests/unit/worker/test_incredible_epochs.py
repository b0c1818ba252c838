"""What an agent says of the epoch that it holds is believed within bounds: it hurts its own load balancer at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from world import World

from tavia.amphora.bundle import Fence
from tavia.model.resources import LoadBalancer, Pool
from tavia.model.statuses import ProvisioningStatus, Topology
from tavia.store import intents, leases

MakeWorld = Callable[..., World]
ACTIVE, DELETED = ProvisioningStatus.ACTIVE, ProvisioningStatus.DELETED


def epoch(world: World, loadbalancer: LoadBalancer) -> int:
    with world.database.read() as conn:
        return leases.seen(conn, loadbalancer.id).epoch


def add_member(world: World, loadbalancer: LoadBalancer) -> None:
    member = world.member(world.tree(loadbalancer).of(Pool)[0], 2)
    world.change(loadbalancer, lambda conn, generation: intents.add(conn, member, generation))


@pytest.mark.parametrize("claimed", [2**63 - 2, 2**63 - 1, 2**40])
def test_an_epoch_that_no_controller_gave_is_that_amphoras_own_trouble(make_world: MakeWorld, claimed: int) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    liar, honest = world.tree(lb).amphorae
    world.bundles[liar.id] = replace(world.bundles[liar.id], fence=Fence(claimed, 1, "nobody"))
    add_member(world, lb)
    world.converge(lb)
    tree = world.tree(lb)
    assert tree.loadbalancer.provisioning_status is ACTIVE
    assert tree.loadbalancer.fault
    assert (tree.loadbalancer.fault["code"], tree.loadbalancer.fault["seam"]) == ("fence-incredible", "agent")
    assert liar.id in tree.loadbalancer.fault["message"]
    assert world.bundles[honest.id].generation == tree.generation
    assert epoch(world, lb) < 100
    world.delete(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is DELETED


def test_an_agent_that_always_holds_a_later_bundle_is_not_followed_for_ever(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    liar, honest = world.tree(lb).amphorae
    world.always_later.add(liar.id)
    before = epoch(world, lb)
    add_member(world, lb)
    world.converge(lb, passes=1)
    tree = world.tree(lb)
    assert tree.loadbalancer.fault
    assert tree.loadbalancer.fault["code"] == "fence-incredible"
    assert world.bundles[honest.id].generation == tree.generation
    assert epoch(world, lb) < before + 10
