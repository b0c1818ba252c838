"""A step of several calls ends before its lease does, so that what hung is shown; what a step leaves undone is too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from world import World

from tavia.deadline import left
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import Topology
from tavia.store import intents
from tavia.worker import rounds
from tavia.worker.convergence import Controller
from tavia.worker.lease_keeper import LeaseKeeper, longest_step

MakeWorld = Callable[..., World]
DEADLINE = 30.0


def watched(world: World, part: Any, name: str) -> list[float]:
    """How much time each of these calls was given, in seconds."""
    call, given = getattr(part, name), []

    def watching(*args: Any, **kwargs: Any) -> Any:
        given.append(left())
        return call(*args, **kwargs)

    setattr(part, name, watching)
    return given


def out_of_time(*_: Any) -> Any:
    raise TimeoutError("no time is left")


def test_it_is_over_before_the_lease_is_renewed_no_more() -> None:
    assert 0 < longest_step(DEADLINE) < DEADLINE
    assert longest_step(1.0) < 1.0


def test_all_calls_of_a_step_share_its_time(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    calls = [watched(world, world.networking, name) for name in ("ports", "create_port", "ensure_security_group")]
    boots = watched(world, world.compute, "boot")
    lb = world.create()
    for given in calls:
        given.clear()  # what the API asked
    world.converge(lb)
    for given in (*calls, boots):
        assert given and max(given) <= longest_step(DEADLINE)
    assert left() == math.inf, "it holds for the step alone"


def test_what_is_asked_between_two_steps_has_a_deadline_too(make_world: MakeWorld) -> None:
    world = make_world()
    given = watched(world, world.networking, "subnet")
    world.converge(world.create())
    assert given and max(given) <= longest_step(DEADLINE)


@pytest.mark.parametrize(("part", "call", "seam"), [("networking", "ports", "boot"), ("compute", "boot", "boot")])
def test_a_step_that_did_not_end_in_time_is_shown_with_its_seam(
    make_world: MakeWorld, part: str, call: str, seam: str
) -> None:
    world = make_world()
    lb = world.create()
    setattr(getattr(world, part), call, out_of_time)
    world.converge(lb, passes=1)
    assert (world.fault(lb)["seam"], world.fault(lb)["code"]) == (seam, "step-timeout")


def test_time_that_was_waited_for_a_thread_counts(make_world: MakeWorld) -> None:
    """As of many steps side by side: the lease does not wait either."""
    world = make_world()
    lb = world.create()
    made = world.controller()
    made.keeper.stop()
    none_left = LeaseKeeper(world.database, DEADLINE, step_deadline=0.0)
    given = watched(world, world.networking, "ports")
    converge(replace(made, keeper=none_left), world)
    none_left.stop()
    assert given == []
    assert world.fault(lb)["code"] == "step-timeout"


def converge(controller: Controller, world: World) -> None:
    (free,) = world.due()
    rounds.converge(controller, free, "worker")


def test_compute_that_hangs_leaves_time_to_take_the_vip_from_an_amphora_that_is_cut_off(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old, other = world.tree(lb).amphorae
    world.hear(other, "MASTER")
    world.cut_off = {old.id}
    given = []

    def hang(server_id: str) -> None:
        given.append(left())
        raise SeamError(Seam.BOOT, "nova-down", "no answer")

    world.compute.power_off = hang  # type: ignore[method-assign]
    world.change(lb, lambda conn, g: intents.replace_amphorae(conn, lb.id, g, [old.id]))
    world.converge(lb, passes=1)
    assert given and max(given) <= longest_step(DEADLINE) / 2
    assert not world.networking.port(old.vrrp_port_id or "").allowed_addresses
