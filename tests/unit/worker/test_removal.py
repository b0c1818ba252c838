"""What is removed while compute still builds it: the server first, and its ports when Nova wants them no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from world import World

from tavia.cloud.protocols import ServerStatus
from tavia.model.statuses import ProvisioningStatus
from tavia.store import schema
from tavia.store.clock import now

MakeWorld = Callable[..., World]


def _compute_is_done(world: World) -> None:
    for server_id in list(world.compute.found):
        world.compute.lose(server_id)


def _it_takes_too_long(world: World) -> None:
    world.sql(update(schema.amphora).values(boot_started_at=now() - 301.0))


@pytest.mark.parametrize("then", [_compute_is_done, _it_takes_too_long])
def test_a_server_that_is_deleted_while_it_is_built_keeps_its_ports_until(
    make_world: MakeWorld, then: Callable[[World], None]
) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    ports = set(world.networking.found)
    world.compute.delete = lambda server_id: None  # type: ignore[method-assign]  # Nova says yes, and builds on
    world.delete(lb)
    world.converge(lb, passes=1)
    assert set(world.networking.found) == ports
    shown = world.tree(lb).loadbalancer
    assert shown.provisioning_status is ProvisioningStatus.PENDING_DELETE
    assert shown.fault
    assert shown.fault["code"] == "server-being-built"
    with world.database.read() as conn:
        assert conn.execute(select(schema.lease.c.until)).scalar_one() == 0, "waiting holds no lease"
        assert conn.execute(select(schema.load_balancer.c.due_at - now())).scalar_one() <= 0.5
    then(world)
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert not world.networking.found
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.DELETED


def test_a_server_that_is_replaced_while_it_is_built_is_waited_for_behind_what_serves(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    (old,) = world.tree(lb).amphorae
    delete, world.compute.delete = world.compute.delete, lambda server_id: None  # type: ignore[method-assign]
    world.compute.boots_to = ServerStatus.ACTIVE
    world.failover(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE
    assert old.vrrp_port_id in world.networking.found
    world.compute.delete = delete  # type: ignore[method-assign]
    world.look_again(lb)
    world.converge(lb)
    assert old.vrrp_port_id not in world.networking.found
    assert old.id not in {a.id for a in world.tree(lb).amphorae}
