"""Who is told first: a half speaks VRRP only when each other one that may hold the VIP knows of it (DESIGN section 3).

With unicast peers neither hears who it was not told of, and both would hold the VIP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from world import FakeAgent, World

from tavia.amphora.bundle import Bundle
from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import LoadBalancer
from tavia.model.statuses import ProvisioningStatus, Role, Topology
from tavia.store import intents

MakeWorld = Callable[..., World]
MASTER, BACKUP = Role.MASTER, Role.BACKUP


def rivals(world: World, lb: LoadBalancer, newcomer_id: str) -> list[str]:
    """Who runs with a bundle that does not name the newcomer, at a port that lets it use the VIP."""
    amphorae = {a.id: a for a in world.tree(lb).amphorae}
    its_address = amphorae[newcomer_id].vrrp_ip or ""
    return [
        other_id
        for other_id, other in amphorae.items()
        if other_id in world.bundles
        and its_address not in world.bundles[other_id].files["keepalived.conf"]
        and world.compute.found[other.compute_id or ""].status is ServerStatus.ACTIVE
        and world.networking.port(other.vrrp_port_id or "").allowed_addresses
    ]


def may_serve(world: World, lb: LoadBalancer) -> list[str]:
    """Who runs with a bundle, at a port that lets it use the VIP."""
    return [
        a.id
        for a in world.tree(lb).amphorae
        if a.id in world.bundles
        and (a.compute_id or "") in world.compute.found
        and world.compute.found[a.compute_id or ""].status is ServerStatus.ACTIVE
        and world.networking.port(a.vrrp_port_id or "").allowed_addresses
    ]


@pytest.mark.parametrize("replaced", [{MASTER}, {BACKUP}, {MASTER, BACKUP}], ids=["master", "backup", "pair"])
@pytest.mark.parametrize("cut_off", [set(), {MASTER}, {BACKUP}, {MASTER, BACKUP}], ids=["none", "m", "b", "both"])
@pytest.mark.parametrize("cannot_be_powered_off", [False, True], ids=["", "no power"])
def test_a_newcomer_speaks_only_where_nobody_is_its_rival(
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    replaced: Collection[Role],
    cut_off: Collection[Role],
    cannot_be_powered_off: bool,
) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old = {a.role: a for a in world.tree(lb).amphorae}
    put, found = FakeAgent._put, []

    def watched(agent: FakeAgent, bundle: Bundle) -> None:
        is_newcomer = agent.amphora.id not in world.bundles
        put(agent, bundle)
        if is_newcomer:
            found.extend(rivals(world, lb, agent.amphora.id))

    monkeypatch.setattr(FakeAgent, "_put", watched)
    if cannot_be_powered_off:
        world.compute.on_silent_hosts = {old[role].compute_id or "" for role in cut_off}
    world.cut_off = {old[role].id for role in cut_off}
    ids = [old[role].id for role in replaced]
    world.change(lb, lambda conn, generation: intents.replace_amphorae(conn, lb.id, generation, ids))
    for _ in range(3):
        world.look_again(lb)
        world.converge(lb)
    assert found == []
    assert may_serve(world, lb)
    world.cut_off.clear()
    world.compute.on_silent_hosts.clear()
    world.look_again(lb)
    world.converge(lb)
    assert found == []
    tree = world.tree(lb)
    assert not {a.id for a in tree.amphorae} & set(ids)
    assert tree.loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
    assert {a.role for a in tree.amphorae if world.bundles[a.id].generation == tree.generation} == {MASTER, BACKUP}


def test_a_newcomer_that_waits_is_shown_with_why(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old = {a.role: a for a in world.tree(lb).amphorae}
    world.cut_off = {old[MASTER].id}
    world.compute.lose(old[BACKUP].compute_id or "")
    world.change(lb, lambda conn, g: intents.replace_amphorae(conn, lb.id, g, [old[BACKUP].id]))
    world.converge(lb)
    (new,) = (a for a in world.tree(lb).amphorae if a.role is BACKUP and a.replace_generation is None)
    assert new.id not in world.bundles
    assert world.fault(lb)["code"] == "agent-connect-refused", "of the master, who is to be told first"
