"""What is looked at again and again while compute takes its time, in the journal: one row until something changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from world import World

from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import LoadBalancer
from tavia.store import schema

MakeWorld = Callable[..., World]


def operations(world: World) -> list[Any]:
    with world.database.read() as conn:
        return list(conn.execute(select(schema.operation).order_by(schema.operation.c.started)))


def look(world: World, loadbalancer: LoadBalancer) -> None:
    world.look_again(loadbalancer)
    world.converge(loadbalancer, passes=1)


def test_looks_at_one_boot_have_one_row_in_the_journal_whoever_looks(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    (begun,) = operations(world)
    for world.host in ("one", "two", "one", "two"):
        look(world, lb)
    (row,) = operations(world)
    assert (row.id, row.what, row.state, row.host) == (begun.id, "create", "waiting", begun.host)
    assert row.ended > begun.ended
    world.change(lb, lambda conn, g: None)
    look(world, lb)
    look(world, lb)
    for server_id in world.compute.found:
        world.compute.power_on(server_id)
    look(world, lb)
    assert [(each.state, each.generation) for each in operations(world)] == [
        ("waiting", 1),
        ("waiting", 2),
        ("done", 2),
    ]


def test_looks_at_one_removal_have_one_row_in_the_journal(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    world.compute.delete = lambda server_id: None  # type: ignore[method-assign]  # Nova says yes, and builds on
    world.delete(lb)
    for _ in range(4):
        look(world, lb)
    assert [(each.what, each.state, each.code) for each in operations(world)] == [
        ("create", "waiting", "waiting"),
        ("delete", "waiting", "server-being-built"),
    ]


def test_what_a_look_finds_new_is_in_the_journal(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    (amphora,) = world.tree(lb).amphorae
    world.cut_off = {amphora.id}
    for server_id in world.compute.found:
        world.compute.power_on(server_id)
    look(world, lb)
    look(world, lb)
    assert [each.state for each in operations(world)] == ["waiting", "waiting"]
