"""What a worker counts: convergences, what tenants wait for, steps, and work taken over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted import growth, sample
from sqlalchemy import update
from world import World

from tavia.bus.wake import Datagrams
from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import LoadBalancer, Member, Pool
from tavia.model.statuses import ProvisioningStatus
from tavia.store import intents, leases, schema
from tavia.worker.loop import Loop

MakeWorld = Callable[..., World]
_lb = schema.load_balancer


def accepted_earlier(world: World, seconds: float) -> None:
    world.sql(update(_lb).values(pending_since=_lb.c.pending_since - seconds))


def add_member(world: World, loadbalancer: LoadBalancer) -> None:
    pool = world.tree(loadbalancer).of(Pool)[0]
    member = world.member(pool, len(world.tree(loadbalancer).of(Member)) + 1)
    world.change(loadbalancer, lambda conn, generation: intents.add(conn, member, generation))


def test_a_change_counts_once_with_the_time_from_its_acceptance_to_active(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    accepted_earlier(world, 100.0)
    with (
        growth("tavia_change_seconds_count", what="create") as changes,
        growth("tavia_change_seconds_sum", what="create") as seconds,
        growth("tavia_convergences_total", what="create", outcome="done") as convergences,
    ):
        world.converge(lb)
        world.look_again(lb)
        world.converge(lb)  # nothing new was accepted, so nobody waited
    assert (changes.by, convergences.by) == (1, 1)
    assert 100.0 <= seconds.by < 160.0


def test_of_changes_applied_together_the_first_tells_how_long_it_took(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    add_member(world, lb)
    accepted_earlier(world, 50.0)
    add_member(world, lb)
    with (
        growth("tavia_change_seconds_count", what="update") as changes,
        growth("tavia_change_seconds_sum", what="update") as seconds,
    ):
        world.converge(lb)
    assert changes.by == 1
    assert 50.0 <= seconds.by < 110.0


def test_a_new_change_of_an_active_load_balancer_begins_to_wait_anew(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    accepted_earlier(world, 1000.0)
    world.converge(lb)
    add_member(world, lb)
    with growth("tavia_change_seconds_sum", what="update") as seconds:
        world.converge(lb)
    assert seconds.by < 60.0


def test_a_deletion_is_counted_when_all_is_gone(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.delete(lb)
    with growth("tavia_change_seconds_count", what="delete") as changes:
        world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.DELETED
    assert changes.by == 1


def test_a_failure_is_counted_by_seam_and_code_and_so_is_its_step(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.ERROR
    lb = world.create()
    with (
        growth("tavia_convergences_total", what="create", outcome="failed") as failed,
        growth("tavia_step_seconds_count", step="create-amphora", seam="control", outcome="done") as done,
    ):
        world.converge(lb, passes=1)
    fault = world.tree(lb).loadbalancer.fault
    assert fault
    assert failed.by == 1
    assert done.by == 1
    assert sample("tavia_failures_total", seam=fault["seam"], code=fault["code"]) >= 1


@pytest.mark.parametrize(("owner", "takeovers"), [("a dead worker", 1), ("", 0)])
def test_only_a_lease_that_ran_out_under_an_owner_was_taken_over(
    make_world: MakeWorld, tmp_path: Path, owner: str, takeovers: int
) -> None:
    world = make_world()
    lb = world.create()
    if owner:
        world.database.write(lambda conn: leases.take(conn, leases.seen(conn, lb.id), owner, -1.0))
    loop = Loop(world.controller(), Datagrams(tmp_path), providers={"amphora"}, poll_interval=3600.0, max_workers=1)
    with growth("tavia_lease_takeovers_total") as taken_over:
        loop.take_due()
        world.stopping.set()
        loop.run()
    assert taken_over.by == takeovers


def test_a_convergence_that_loses_its_lease_is_lost(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    through = world.switch.through

    def overtaken(name: str, effect: Callable[[], Any]) -> Any:
        if name == "boot":
            world.expire_leases()
            assert world.take(lb.id, "another")
        return through(name, effect)

    world.switch.through = overtaken  # type: ignore[method-assign]
    with (
        growth("tavia_leases_lost_total") as leases_lost,
        growth("tavia_convergences_total", what="create", outcome="lost") as lost,
    ):
        world.converge(lb, passes=1)
    assert (leases_lost.by, lost.by) == (1, 1)
