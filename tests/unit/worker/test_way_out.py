"""There is a way out of every status without SQL: release, or DELETE. The guide's table "It is in X" stands on this.

Statuses are set here as no crash of ours leaves them: with nothing planned, so that nobody would look again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from world import World

from tavia.model.resources import CHILDREN, LoadBalancer
from tavia.model.statuses import PENDING, AmphoraStatus, ProvisioningStatus
from tavia.store import release, schema

MakeWorld = Callable[..., World]
PS = ProvisioningStatus
STUCK = sorted(PENDING | {PS.ERROR})


def standing(world: World) -> LoadBalancer:
    made = world.create()
    world.converge(made)
    assert statuses(world, schema.load_balancer) == {"ACTIVE"}
    return made


def statuses(world: World, table: Any) -> set[str]:
    with world.database.read() as conn:
        return set(conn.execute(select(table.c.provisioning_status)).scalars())


def released(world: World, loadbalancer: LoadBalancer) -> None:
    assert loadbalancer.id not in {due.loadbalancer_id for due in world.due()}
    ours = frozenset({"amphora"})
    world.database.write(
        lambda conn: release.release(conn, loadbalancer.id, providers=ours, boots_with={}, asked_by="ada", host="ctl-1")
    )
    world.converge(loadbalancer)


@pytest.mark.parametrize("status", [PS.PENDING_CREATE, PS.PENDING_UPDATE, PS.ERROR])
def test_a_load_balancer_is_active_after_a_release(make_world: MakeWorld, status: PS) -> None:
    world = make_world()
    made = standing(world)
    world.sql(update(schema.load_balancer).values(provisioning_status=status))
    released(world, made)
    assert statuses(world, schema.load_balancer) == {"ACTIVE"}


@pytest.mark.parametrize("status", [PS.PENDING_DELETE, PS.ERROR])
def test_one_whose_deletion_was_accepted_is_gone_after_a_release(make_world: MakeWorld, status: PS) -> None:
    world = make_world()
    made = standing(world)
    world.delete(made)
    lb = schema.load_balancer
    world.sql(update(lb).values(provisioning_status=status, attempted_generation=lb.c.generation))
    released(world, made)
    assert statuses(world, schema.load_balancer) == {"DELETED"}
    assert not world.compute.found


def test_one_that_is_pending_delete_though_nobody_asked_is_active_after_a_release(make_world: MakeWorld) -> None:
    world = make_world()
    made = standing(world)
    world.sql(update(schema.load_balancer).values(provisioning_status=PS.PENDING_DELETE))
    released(world, made)
    assert statuses(world, schema.load_balancer) == {"ACTIVE"}


@pytest.mark.parametrize("status", STUCK)
@pytest.mark.parametrize("resource", CHILDREN)
def test_a_child_is_active_after_a_release(make_world: MakeWorld, resource: Any, status: PS) -> None:
    world = make_world()
    made = standing(world)
    table = schema.TABLES[resource]
    world.sql(update(table).values(provisioning_status=status))
    released(world, made)
    assert statuses(world, table) <= {"ACTIVE"}


@pytest.mark.parametrize("status", [s for s in AmphoraStatus if s is not AmphoraStatus.DELETED])
def test_whatever_an_amphora_is_in_one_serves_after_a_release(make_world: MakeWorld, status: AmphoraStatus) -> None:
    world = make_world()
    made = standing(world)
    world.sql(update(schema.amphora).values(status=status, applied_generation=0, applied_hash=None))
    released(world, made)
    assert [a.status for a in world.tree(made).amphorae] == [AmphoraStatus.ALLOCATED]
    assert len(world.compute.found) == 1
    assert statuses(world, schema.load_balancer) == {"ACTIVE"}
