"""The loop over load balancers: all that is due gets its turn, each in one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import update
from world import World

from tavia.bus.wake import Datagrams, wake_workers
from tavia.model.statuses import ProvisioningStatus
from tavia.store import due, schema
from tavia.store.clock import now
from tavia.worker.loop import Loop

MakeWorld = Callable[..., World]
_lb = schema.load_balancer.c


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_loop(world: World, directory: Path, max_workers: int) -> Loop:
    """One that looks by itself once an hour, so that nothing but wake-ups and free threads drives it."""
    return Loop(
        world.controller(), Datagrams(directory), providers={"amphora"}, poll_interval=3600.0, max_workers=max_workers
    )


def test_what_found_no_thread_gets_the_next_one_that_is_free(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    loadbalancers = [world.create() for _ in range(4)]
    loop = make_loop(world, tmp_path, max_workers=1)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        eventually(
            lambda: all(
                world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE for lb in loadbalancers
            )
        )
    finally:
        world.stopping.set()
        wake_workers(tmp_path)
        thread.join()


def test_one_under_way_is_not_begun_again(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    world.create()
    loop = make_loop(world, tmp_path, max_workers=4)
    gate, begun = threading.Event(), []
    write = loop._controller.database.write

    def wait_at_the_gate(work: Callable[..., Any], *, in_snapshot: bool = False) -> Any:
        begun.append(threading.get_ident())
        gate.wait()
        return write(work, in_snapshot=in_snapshot)

    loop._controller.database.write = wait_at_the_gate  # type: ignore[method-assign]
    for _ in range(3):
        loop.take_due()
    eventually(lambda: len(begun) >= 1)
    world.stopping.set()
    gate.set()
    loop.run()
    assert len(set(begun)) == 1


def test_what_is_due_comes_in_random_order_however_much_it_is(make_world: MakeWorld) -> None:
    world = make_world()
    for _ in range(3):
        world.create()
    with world.database.read() as conn:
        first = {due.due(conn, ["amphora"], limit=1)[0].lease.loadbalancer_id for _ in range(100)}
    assert len(first) == 3


def test_what_has_waited_for_long_comes_before_what_came_just_now(make_world: MakeWorld) -> None:
    world = make_world()
    patient, *others = [world.create() for _ in range(3)]
    for lb, waited in ((patient, 30.0), *((other, 0.5) for other in others)):
        world.sql(update(schema.load_balancer).where(_lb.id == lb.id).values(pending_since=now() - waited))
    with world.database.read() as conn:
        first = [due.due(conn, ["amphora"], limit=1)[0].lease.loadbalancer_id for _ in range(100)]
    assert first.count(patient.id) > 80


def test_one_that_is_always_pending_does_not_come_before_all_others(make_world: MakeWorld) -> None:
    world = make_world()
    busy, other = world.create(), world.create()
    for lb, waited in ((busy, 10 * due.LONGEST_COUNTED), (other, due.LONGEST_COUNTED)):
        world.sql(update(schema.load_balancer).where(_lb.id == lb.id).values(pending_since=now() - waited))
    with world.database.read() as conn:
        first = [due.due(conn, ["amphora"], limit=1)[0].lease.loadbalancer_id for _ in range(200)]
    assert 50 < first.count(other.id) < 150


def test_trouble_gets_half_the_threads_and_its_next_when_one_of_its_own_ends(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    """Whose agents do not answer hold their threads for a whole timeout; who is well does not wait for that."""
    world = make_world()
    troubled = {world.create().id for _ in range(6)}
    world.sql(update(schema.load_balancer).values(fault={"code": "agent-timeout"}))
    gate, held = threading.Semaphore(0), []
    loop = make_loop(world, tmp_path, max_workers=4)
    take = loop._controller.database.write

    def wait_at_the_gate(work: Callable[..., Any], *, in_snapshot: bool = False) -> Any:
        if in_snapshot and threading.current_thread().name.startswith("convergence"):
            held.append(threading.get_ident())
            gate.acquire()
        return take(work, in_snapshot=in_snapshot)

    loop._controller.database.write = wait_at_the_gate  # type: ignore[method-assign]
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        eventually(lambda: len(held) == 2)
        well = world.create()
        wake_workers(tmp_path)
        eventually(lambda: len(held) == 3)
        assert len(loop.unfinished()) == 3
        assert f"load balancer {well.id}" in loop.unfinished()
        for _ in range(100):
            gate.release()
        eventually(lambda: not {each.lease.loadbalancer_id for each in all_due(world)} & {well.id, *troubled})
    finally:
        world.stopping.set()
        for _ in range(100):
            gate.release()
        wake_workers(tmp_path)
        thread.join()


def all_due(world: World) -> list[due.Due]:
    with world.database.read() as conn:
        return due.due(conn, ["amphora"], limit=10)
