"""What was made so is announced, once and after its commit."""

from __future__ import annotations

from collections.abc import Callable

from world import World

from tavia.bus.events import Event

MakeWorld = Callable[..., World]


def test_a_life_is_announced_with_octavias_events(make_world: MakeWorld) -> None:
    world = make_world()
    loadbalancer = world.create()
    world.converge(loadbalancer)
    assert [event for event, _ in world.announced] == [Event.CREATED]
    world.failover(loadbalancer)
    world.converge(loadbalancer)
    world.delete(loadbalancer)
    world.converge(loadbalancer)
    assert [event for event, _ in world.announced] == [Event.CREATED, Event.UPDATED, Event.DELETED]
    assert {announced.id for _, announced in world.announced} == {loadbalancer.id}


def test_another_look_at_what_is_done_announces_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    loadbalancer = world.create()
    world.converge(loadbalancer)
    world.look_again(loadbalancer)
    world.converge(loadbalancer)
    assert [event for event, _ in world.announced] == [Event.CREATED]
