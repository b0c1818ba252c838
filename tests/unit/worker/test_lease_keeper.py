"""No effect begins without enough of a lease left, and a hung step loses it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from world import World

from tavia.store import schema
from tavia.store.leases import Lease, LeaseLost
from tavia.worker.lease_keeper import LeaseKeeper

MakeWorld = Callable[..., World]
TTL = 0.6


def held(world: World, keeper: LeaseKeeper) -> Lease:
    loadbalancer = world.create()
    at = time.monotonic()
    lease = world.take(loadbalancer.id, "a", TTL)
    assert lease
    keeper.hold(lease, at)
    return lease


def until(world: World) -> float:
    with world.database.read() as conn:
        return float(conn.execute(select(schema.lease.c.until)).scalar_one())


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lease_is_renewed_while_it_is_held(make_world: MakeWorld) -> None:
    world = make_world()
    keeper = LeaseKeeper(world.database, TTL, step_deadline=30.0)
    lease = held(world, keeper)
    first = until(world)
    eventually(lambda: until(world) > first)
    keeper.begin_step(lease)
    keeper.stop()


def test_no_effect_begins_in_the_last_fifth_of_a_lease(make_world: MakeWorld) -> None:
    world = make_world()
    keeper = LeaseKeeper(world.database, ttl=1000.0, step_deadline=30.0)
    lease = Lease("lb", "a", 1)
    keeper.hold(lease, time.monotonic() - 799.0)
    keeper.begin_step(lease)
    keeper.hold(lease, time.monotonic() - 801.0)
    with pytest.raises(LeaseLost):
        keeper.begin_step(lease)
    keeper.stop()


def test_a_step_past_its_deadline_is_renewed_no_more(make_world: MakeWorld) -> None:
    world = make_world()
    keeper = LeaseKeeper(world.database, TTL, step_deadline=0.0)
    lease = held(world, keeper)
    keeper.begin_step(lease)
    last = until(world)
    eventually(lambda: world.take(lease.loadbalancer_id, "b", TTL) is not None)
    assert until(world) > last
    keeper.stop()


def test_a_worker_that_hangs_between_two_steps_is_renewed_no_more(make_world: MakeWorld) -> None:
    world = make_world()
    keeper = LeaseKeeper(world.database, TTL, step_deadline=2 * TTL)
    lease = held(world, keeper)
    keeper.begin_step(lease)
    keeper.end_step(lease)
    for _ in range(5):
        keeper.renewed(lease, time.monotonic())  # it writes: it does not hang
        last = until(world)
        eventually(lambda last=last: until(world) > last)  # type: ignore[misc]
    eventually(lambda: world.take(lease.loadbalancer_id, "b", TTL) is not None)
    keeper.stop()


def test_a_lost_lease_is_noticed(make_world: MakeWorld) -> None:
    world = make_world()
    keeper = LeaseKeeper(world.database, TTL, step_deadline=30.0)
    lease = held(world, keeper)
    world.sql(update(schema.lease).values(owner="b", epoch=schema.lease.c.epoch + 1))

    def noticed() -> bool:
        try:
            keeper.begin_step(lease)
        except LeaseLost:
            return True
        keeper.end_step(lease)
        return False

    eventually(noticed)
    keeper.stop()
