"""An agent's certificate is renewed long before its end, and nothing else changes with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update
from world import World

from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Topology
from tavia.store import schema
from tavia.store.clock import utcnow

MakeWorld = Callable[..., World]
VALIDITY = timedelta(days=30)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(Topology.ACTIVE_STANDBY)


def served(world: World) -> LoadBalancer:
    lb = world.create()
    world.converge(lb)
    assert world.certificates == [], "the one of the boot is good for long"
    return lb


def expires_in(world: World, days: float) -> None:
    world.sql(update(schema.amphora).values(cert_expiration=utcnow() + timedelta(days=days)))


def look(world: World, lb: LoadBalancer) -> None:
    world.look_again(lb)
    world.converge(lb)


def test_one_near_its_end_is_renewed_once_and_no_bundle_with_it(world: World) -> None:
    lb = served(world)
    pushes = list(world.pushes)
    expires_in(world, 13.9)
    look(world, lb)
    look(world, lb)
    amphorae = world.tree(lb).amphorae
    assert sorted(amphora_id for amphora_id, _ in world.certificates) == sorted(a.id for a in amphorae)
    assert all(a.cert_expiration and a.cert_expiration > utcnow() + VALIDITY / 2 for a in amphorae)
    assert world.pushes == pushes
    assert world.tree(lb).loadbalancer.fault is None


def test_one_that_is_good_for_long_is_left_alone(world: World) -> None:
    lb = served(world)
    expires_in(world, 14.1)
    look(world, lb)
    assert world.certificates == []


def test_where_an_agent_is_not_reached_it_is_tried_until_done_and_changes_go_on(world: World) -> None:
    lb = served(world)
    expires_in(world, 3)
    one, other = world.tree(lb).amphorae
    world.cut_off.add(one.id)
    look(world, lb)
    assert [amphora_id for amphora_id, _ in world.certificates] == [other.id]
    tree = world.tree(lb)
    assert tree.loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
    assert world.fault(lb)["code"] == "agent-connect-refused"
    assert tree.loadbalancer.due_at is not None
    world.cut_off.clear()
    look(world, lb)
    assert {amphora_id for amphora_id, _ in world.certificates} == {one.id, other.id}
    assert world.tree(lb).loadbalancer.fault is None


def test_an_old_server_that_cannot_be_removed_keeps_no_certificate_from_being_renewed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lb = served(world)

    def refuse(server_id: str) -> None:
        raise SeamError(Seam.BOOT, "nova-down", "no answer")

    monkeypatch.setattr(world.compute, "delete", refuse)
    world.failover(lb)
    world.converge(lb)
    assert world.fault(lb)["code"] == "nova-down"
    expires_in(world, 3)
    look(world, lb)
    serving = [a.id for a in world.tree(lb).amphorae if a.status is AmphoraStatus.ALLOCATED]
    assert len(serving) == 2
    assert {amphora_id for amphora_id, _ in world.certificates} == set(serving)


def test_one_that_is_only_ever_good_for_less_than_the_buffer_is_not_renewed_without_end(world: World) -> None:
    world.cert_validity = 3600
    lb = served(world)
    look(world, lb)
    assert world.certificates == []
    expires_in(world, 0.01)
    look(world, lb)
    look(world, lb)
    assert len(world.certificates) == 2
