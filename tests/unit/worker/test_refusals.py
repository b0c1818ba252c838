"""What programs in the amphora refuse: whose fault that is, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from world import World

from tavia.model.resources import Listener, LoadBalancer, Pool
from tavia.model.statuses import ProvisioningStatus, Topology
from tavia.store import intents, schema
from tavia.store.clock import now

MakeWorld = Callable[..., World]
ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
PENDING_CREATE = ProvisioningStatus.PENDING_CREATE
_lb = schema.load_balancer.c


def add_listener(world: World, loadbalancer: LoadBalancer, port: int) -> None:
    listener = world.listener(loadbalancer, port, world.tree(loadbalancer).of(Pool)[0])
    world.change(loadbalancer, lambda conn, g: intents.add(conn, listener, g))


def listeners(world: World, loadbalancer: LoadBalancer) -> dict[int, tuple[ProvisioningStatus, str | None]]:
    """The status and the code of the fault of each, by port."""
    found = world.tree(loadbalancer).of(Listener)
    return {
        each.protocol_port: (each.provisioning_status, each.fault["code"] if each.fault else None) for each in found
    }


def due_in(world: World) -> float | None:
    with world.database.read() as conn:
        seconds = conn.execute(select(_lb.due_at - now())).scalar_one()
        return None if seconds is None else float(seconds)


def test_what_keepalived_refuses_is_the_load_balancers_own_and_no_listeners(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    add_listener(world, lb, 81)
    world.forbidden, world.forbidden_in = "virtual_ipaddress", "keepalived.conf"
    world.converge(lb, passes=1)
    assert listeners(world, lb) == {80: (ACTIVE, None), 81: (PENDING_CREATE, None)}
    shown = world.tree(lb).loadbalancer
    assert (shown.provisioning_status, shown.fault and shown.fault["code"]) == (ERROR, "keepalived-refused")
    world.forbidden = ""
    world.look_again(lb)
    world.converge(lb)
    assert listeners(world, lb) == {80: (ACTIVE, None), 81: (ACTIVE, None)}
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE


def test_what_the_keepalived_of_one_half_refuses_the_other_half_serves(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    add_listener(world, lb, 81)
    refusing = world.tree(lb).amphorae[0]
    world.forbidden, world.forbidden_in = f"router_id {refusing.id}", "keepalived.conf"
    world.converge(lb, passes=1)
    assert listeners(world, lb) == {80: (ACTIVE, None), 81: (ACTIVE, None)}
    shown = world.tree(lb).loadbalancer
    assert (shown.provisioning_status, shown.fault and shown.fault["code"]) == (ACTIVE, "keepalived-refused")
    assert 0.0 < (due_in(world) or 0.0) <= 5.0


def test_what_haproxy_refused_is_tried_again_ever_more_rarely_until_it_takes_it(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    add_listener(world, lb, 666)
    world.forbidden = f"{lb.vip_address}:666"
    world.converge(lb, passes=1)
    assert listeners(world, lb)[666] == (ERROR, "haproxy-refused")
    (first,) = (each.fault for each in world.tree(lb).of(Listener) if each.fault)
    assert 0.0 < (due_in(world) or 0.0) <= 5.0
    for failing_for, pause in ((20.0, 20.0), (1000.0, 60.0)):
        world.sql(schema.load_balancer.update().values(failing_since=now() - failing_for, due_at=now()))
        world.converge(lb, passes=1)
        assert pause - 5.0 < (due_in(world) or 0.0) < pause + 5.0
        assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
        assert [each.fault for each in world.tree(lb).of(Listener) if each.fault] == [first]
    world.forbidden = ""
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert listeners(world, lb) == {80: (ACTIVE, None), 666: (ACTIVE, None)}
    assert due_in(world) is None


@pytest.mark.parametrize("then", ["a change", "a failover"])
def test_what_haproxy_refused_is_tried_again_at_once_where_something_changes(make_world: MakeWorld, then: str) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    add_listener(world, lb, 666)
    world.forbidden = f"{lb.vip_address}:666"
    world.converge(lb, passes=1)
    world.sql(schema.load_balancer.update().values(failing_since=now() - 1000.0, due_at=now() + 60.0))
    world.forbidden = ""
    if then == "a change":
        world.change(lb, lambda conn, g: None)
    else:
        world.failover(lb)
    world.converge(lb)
    assert listeners(world, lb) == {80: (ACTIVE, None), 666: (ACTIVE, None)}
