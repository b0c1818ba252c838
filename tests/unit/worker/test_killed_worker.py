"""Kill the worker between any two of its effects and transactions; another one finishes its work.

The points are enumerated, not sampled: a run without a kill counts them, then each is tried. Nothing lies between two
points but computing, so before one is after the one before it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from fake_cloud import Killed
from world import World

from tavia.amphora.client import Unreachable
from tavia.model.member_ports import plugged_subnets
from tavia.model.resources import LoadBalancer, Member, Pool
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Topology
from tavia.model.tree import Tree
from tavia.store import intents
from tavia.worker.security import group_name, security_rules

pytestmark = pytest.mark.large

MakeWorld = Callable[..., World]


def create(world: World) -> LoadBalancer:
    return world.create()


def update(world: World) -> LoadBalancer:
    loadbalancer = world.create()
    world.converge(loadbalancer)
    pool = world.tree(loadbalancer).of(Pool)[0]
    world.change(loadbalancer, lambda conn, g: intents.add(conn, world.member(pool, 2), g))
    return loadbalancer


def failover(world: World) -> LoadBalancer:
    loadbalancer = world.create()
    world.converge(loadbalancer)
    world.failover(loadbalancer)
    return loadbalancer


def delete(world: World) -> LoadBalancer:
    loadbalancer = world.create()
    world.converge(loadbalancer)
    world.delete(loadbalancer)
    return loadbalancer


def create_with_members_elsewhere(world: World) -> LoadBalancer:
    return world.create("web-subnet")


def plug(world: World) -> LoadBalancer:
    loadbalancer = world.create()
    world.converge(loadbalancer)
    pool = world.tree(loadbalancer).of(Pool)[0]
    members = [world.member(pool, 2, "web-subnet"), world.member(pool, 3, "db-subnet")]
    world.change(loadbalancer, lambda conn, g: intents.add_all(conn, members, g))
    return loadbalancer


def unplug(world: World) -> LoadBalancer:
    loadbalancer = plug(world)
    world.converge(loadbalancer)
    gone = [m.id for m in world.tree(loadbalancer).of(Member) if m.subnet_id == "web-subnet"]
    world.change(loadbalancer, lambda conn, g: intents.mark_deleted(conn, Member, gone, g))
    return loadbalancer


def open_another_port(world: World) -> LoadBalancer:
    loadbalancer = world.create()
    world.converge(loadbalancer)
    world.change(loadbalancer, lambda conn, g: intents.add(conn, world.listener(loadbalancer, 81, None), g))
    return loadbalancer


def replace_with_a_lost_vip_port(world: World) -> LoadBalancer:
    loadbalancer = plug(world)
    world.converge(loadbalancer)
    world.networking.lose(loadbalancer.vip_port_id or "")
    world.failover(loadbalancer)
    return loadbalancer


OPERATIONS = [
    *(create, update, failover, delete),
    *(create_with_members_elsewhere, plug, unplug, open_another_port, replace_with_a_lost_vip_port),
]


def finished(world: World, loadbalancer: LoadBalancer) -> None:
    """What holds once nothing is due: applied, nothing orphaned, and a further pass changes nothing."""
    tree = world.tree(loadbalancer)
    assert tree.loadbalancer.observed_generation == tree.loadbalancer.generation
    amphora_tags = {f"tavia-amphora={a.id}" for a in tree.amphorae}
    assert {tag for s in world.compute.found.values() for tag in s.tags if "amphora" in tag} == amphora_tags
    assert len(world.compute.found) == len(tree.amphorae)
    if tree.loadbalancer.provisioning_status is ProvisioningStatus.DELETED:
        assert not tree.amphorae
        assert not (world.networking.found or world.networking.groups or world.compute.groups)
        assert list(tree.rows) == []
        return
    assert tree.loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
    assert {row.provisioning_status for row in tree.rows} == {ProvisioningStatus.ACTIVE}
    assert {a.status for a in tree.amphorae} == {AmphoraStatus.ALLOCATED}
    assert sorted(a.role or "" for a in tree.amphorae) == sorted(world.topology.roles)
    for amphora in tree.amphorae:
        bundle = world.bundles[amphora.id]
        assert bundle.generation == tree.generation
        assert all(member.address in bundle.files["haproxy.cfg"] for member in tree.of(Member))
    assert len(world.networking.found) == 1 + (2 + len(tree.member_subnets())) * len(tree.amphorae)
    plugged_and_guarded(world, tree)
    pushes, boots = len(world.pushes), len(world.compute.boots)
    world.look_again(loadbalancer)
    world.converge(loadbalancer, "a further pass")
    assert (len(world.pushes), len(world.compute.boots)) == (pushes, boots)


def plugged_and_guarded(world: World, tree: Tree) -> None:
    """Every port of an amphora is in its server, and who may reach the VIP is what listeners say."""
    for amphora in tree.amphorae:
        tagged = {port.id for port in world.networking.ports(frozenset({f"tavia-amphora={amphora.id}"}))}
        assert set(world.compute.port_ids[amphora.compute_id or ""]) == tagged
        assert plugged_subnets(amphora) == tree.member_subnets()
    lb = tree.loadbalancer
    assert world.networking.groups == {group_name(lb.id): security_rules(tree, peers_only=True)}
    guarded = {lb.vip_port_id, *(amphora.vrrp_port_id for amphora in tree.amphorae)}
    assert {port for port, groups in world.networking.groups_of.items() if groups == {group_name(lb.id)}} == guarded
    assert {fixed.ip_address for fixed in world.networking.port(lb.vip_port_id or "").fixed_ips} == {lb.vip_address}


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_worker_finishes_wherever_the_first_was_killed(
    operation: Callable[[World], LoadBalancer], topology: Topology, make_world: MakeWorld
) -> None:
    world = make_world(topology)
    loadbalancer = operation(world)
    begin_again = world.remember()
    world.switch.arm()
    world.converge(loadbalancer)
    points = list(world.switch.names)
    world.switch.armed = False
    finished(world, loadbalancer)
    assert len(points) > 3

    for index in range(len(points) + 1):
        begin_again()
        world.switch.arm(kill_before=index)
        with contextlib.suppress(Killed):
            world.converge(loadbalancer)
        assert len(world.switch.names) == min(index + 1, len(points))
        world.switch.armed = False
        world.expire_leases()
        world.converge(loadbalancer, "another worker")
        finished(world, loadbalancer)


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("is_ours", [True, False])
def test_nothing_is_left_where_a_tenant_deletes_what_a_killed_worker_half_made(
    is_ours: bool, topology: Topology, make_world: MakeWorld
) -> None:
    world = make_world(topology)
    loadbalancer = world.create("web-subnet", vip_port_ours=is_ours)
    begin_again = world.remember()
    world.switch.arm()
    world.converge(loadbalancer)
    points = list(world.switch.names)
    assert len(points) > 3
    for index in range(len(points) + 1):
        begin_again()
        world.switch.arm(kill_before=index)
        with contextlib.suppress(Killed):
            world.converge(loadbalancer)
        world.switch.armed = False
        world.expire_leases()
        world.delete(loadbalancer)
        world.converge(loadbalancer, "another worker")
        assert world.tree(loadbalancer).loadbalancer.provisioning_status is ProvisioningStatus.DELETED
        assert list(world.networking.found) == ([] if is_ours else [loadbalancer.vip_port_id])
        assert not any(world.networking.groups_of.values())
        assert not (world.compute.found or world.networking.groups or world.compute.groups)


def fail_once(world: World, index: int, *, is_done: bool) -> None:
    """The effect of this number fails: for good before it is done, or its answer is lost."""
    through, count = world.switch.through, itertools.count()

    def failing(name: str, effect: Callable[[], Any]) -> Any:
        if name == "transaction" or next(count) != index:
            return through(name, effect)
        if is_done:
            through(name, effect)
        if name == "put-bundle":
            raise Unreachable("agent-timeout", "no answer")
        raise SeamError(Seam.BOOT, "cloud-down", f"{name} failed", permanent=not is_done)

    world.switch.through = failing  # type: ignore[method-assign]


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_effect_that_fails_is_made_good(
    operation: Callable[[World], LoadBalancer], is_done: bool, make_world: MakeWorld
) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    loadbalancer = operation(world)
    begin_again = world.remember()
    world.switch.arm()
    world.converge(loadbalancer)
    effects = [name for name in world.switch.names if name != "transaction"]
    assert effects
    for index in range(len(effects)):
        begin_again()
        fail_once(world, index, is_done=is_done)
        for _ in range(3):
            world.converge(loadbalancer)
            world.look_again(loadbalancer)
        finished(world, loadbalancer)
        assert world.tree(loadbalancer).loadbalancer.fault is None
