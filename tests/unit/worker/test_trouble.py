"""What goes wrong beside the plan: steps that fail alone, requests at the wrong moment, streams of changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fake_cloud import Killed
from sqlalchemy import Connection, select, text, update
from world import FakeAgent, World

from tavia.amphora.client import TlsRefused
from tavia.amphora.protocol import AgentFailed
from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Topology
from tavia.store import commits, history, intents, journal, leases, liveness, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.worker.rounds import ROUNDS, converge

MakeWorld = Callable[..., World]
ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
QUOTA = SeamError(Seam.BOOT, "quota", "no more instances", permanent=True)
_lb = schema.load_balancer.c


def add(world: World, row: Member | Listener | Pool) -> None:
    """One accepted request that adds a row."""

    def accept(conn: Connection) -> None:
        intents.add(conn, row, intents.begin_change(conn, row.loadbalancer_id))

    world.database.write(accept)


def before_each(world: World, effect: str, act: Callable[[], None], times: int = 1) -> None:
    """Let something happen right before the next effects of this name."""
    through, left = world.switch.through, [act] * times

    def acting(name: str, do: Callable[[], Any]) -> Any:
        if name == effect and left:
            left.pop()()
        return through(name, do)

    world.switch.through = acting  # type: ignore[method-assign,assignment]


def scalar(world: World, statement: Any) -> Any:
    with world.database.read() as conn:
        return conn.execute(statement).scalar_one()


def steps(world: World) -> list[str]:
    with world.database.read() as conn:
        found = history.operations(conn, history.Criteria())
        return [step.state for operation in reversed(found) for step in history.steps(conn, operation)]


def test_an_unforeseen_error_of_one_step_leaves_the_others_recorded(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    inside = "[SQL: UPDATE secret WHERE host = '10.30.0.1']"
    world.refuse_boots(lambda number: number == 0, ZeroDivisionError(inside))
    world.converge(lb, passes=1)
    assert "running" not in steps(world)
    assert steps(world).count("failed") == 1
    assert world.fault(lb)["code"] == "internal-error"
    assert inside not in world.fault(lb)["message"], "it is the tenant's to read"
    with world.database.read() as conn:
        (operation,) = history.operations(conn, history.Criteria())
        failed = [step.reason for step in history.steps(conn, operation) if step.state == "failed"]
    assert [*failed, operation.reason] == [
        f"{world.fault(lb)['message']}: ZeroDivisionError: {inside}",
        f"{world.fault(lb)['message']}: ZeroDivisionError: {inside}",
    ]
    assert len([a for a in world.tree(lb).amphorae if a.compute_id]) == 1


def test_a_booted_agent_that_refuses_tls_is_waited_for_and_then_replaced(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    lb = world.create()
    with monkeypatch.context() as patched:
        patched.setattr(FakeAgent, "status", _refuse_tls)
        world.converge(lb, passes=1)
        (amphora,) = world.tree(lb).amphorae
        world.sql(update(schema.amphora).values(active_at=now() - 601.0))
        world.look_again(lb)
        world.converge(lb, passes=1)
    assert world.fault(lb)["code"] == "tls-refused-by-amphora"
    world.look_again(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert amphora.id not in {a.id for a in world.tree(lb).amphorae}


def _refuse_tls(_agent: FakeAgent) -> None:
    raise TlsRefused("amphora", "bad certificate")


def test_an_error_keeps_its_fault_while_the_next_try_boots(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.ERROR
    lb = world.create()
    world.converge(lb, passes=1)
    world.sql(update(schema.load_balancer).values(failing_since=now() - 301.0))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ERROR
    world.compute.boots_to = ServerStatus.BUILDING
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ERROR
    assert world.fault(lb)["code"] == "server-error"


def test_a_fault_says_since_when_it_fails_not_when_it_was_last_tried(make_world: MakeWorld) -> None:
    world = make_world()
    world.refuse_boots(lambda _: True, QUOTA)
    lb = world.create()
    world.converge(lb, passes=1)
    an_hour_ago = (utcnow() - timedelta(hours=1)).isoformat(timespec="seconds")
    world.sql(update(schema.load_balancer).values(fault=world.fault(lb) | {"since": an_hour_ago}))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert world.fault(lb)["since"] == an_hour_ago


def test_what_fails_behind_a_serving_load_balancer_is_tried_ever_more_rarely(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.refuse_boots(lambda _: True, QUOTA)
    world.failover(lb)
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE, "the old amphora serves on"
    world.sql(update(schema.load_balancer).values(failing_since=_lb.failing_since - 40.0))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert scalar(world, select(_lb.due_at - now())) > 30.0


def test_a_deleted_load_balancer_stays_deleted_though_a_second_removal_fails(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (amphora,) = world.tree(lb).amphorae
    came_back = world.compute.found[amphora.compute_id or ""]
    world.delete(lb)
    world.converge(lb)
    world.compute.found[came_back.id] = came_back
    world.database.write(lambda conn: intents.remove_again(conn, amphora.id))
    before_each(world, "delete-server", _out_of_order)
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.DELETED
    world.look_again(lb)
    world.converge(lb)
    assert not world.compute.found


def _out_of_order() -> None:
    raise SeamError(Seam.BOOT, "compute-down", "no answer", permanent=True)


def test_a_refused_member_stays_in_error_until_it_is_applied(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    bad = world.member(pool, 40)
    add(world, bad)
    world.forbidden = bad.address
    world.converge(lb, passes=1)
    add(world, world.listener(lb, 81, None))
    world.converge(lb, passes=1)
    status = {m.id: m.provisioning_status for m in world.tree(lb).of(Member)}
    assert status[bad.id] is ERROR
    world.forbidden = ""
    world.change(lb, lambda conn, g: None)
    world.converge(lb)
    assert {m.provisioning_status for m in world.tree(lb).of(Member)} == {ACTIVE}


def test_a_listener_keeps_its_pool_where_the_new_one_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (listener,), (old,) = world.tree(lb).of(Listener), world.tree(lb).of(Pool)
    new = world.pool(lb)
    bad = world.member(new, 40)
    add(world, new)
    add(world, bad)
    world.change(lb, lambda conn, g: intents.change(conn, Listener, [listener.id], g, default_pool_id=new.id))
    world.forbidden = bad.address
    world.converge(lb, passes=1)
    config = world.bundles[world.tree(lb).amphorae[0].id].files["haproxy.cfg"]
    assert f"default_backend {old.id}:{listener.id}" in config
    tree = world.tree(lb)
    assert (tree.of(Listener)[0].provisioning_status, tree.loadbalancer.provisioning_status) == (ERROR, ACTIVE)
    world.forbidden = ""
    world.change(lb, lambda conn, g: None)
    world.converge(lb)
    tree = world.tree(lb)
    assert {row.provisioning_status for row in (*tree.of(Listener), *tree.of(Pool), *tree.of(Member))} == {ACTIVE}


def test_a_removal_asked_for_during_a_convergence_is_not_forgotten(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (old,) = world.tree(lb).amphorae
    came_back = world.compute.found[old.compute_id or ""]
    world.failover(lb)
    world.converge(lb)
    world.compute.found[came_back.id] = came_back

    def hear() -> None:
        world.database.write(lambda conn: intents.remove_again(conn, old.id))

    _while_committing(world, hear)
    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    world.converge(lb)
    assert came_back.id not in world.compute.found
    assert [a.status for a in world.tree(lb).amphorae] == [AmphoraStatus.ALLOCATED]


def test_a_push_asked_for_during_a_convergence_is_not_forgotten(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (amphora,) = world.tree(lb).amphorae
    _while_committing(world, lambda: world.database.write(lambda conn: liveness.push_again(conn, amphora.id)))
    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    world.converge(lb)
    assert world.tree(lb).amphorae[0].applied_hash is not None


def _while_committing(world: World, act: Callable[[], None]) -> None:
    """Let something happen right before the load balancer turns ACTIVE: after the tree was read the last time."""
    through, pushes = world.switch.through, len(world.pushes)

    def acting(name: str, do: Callable[[], Any]) -> Any:
        if name == "transaction" and len(world.pushes) > pushes:
            world.switch.through = through  # type: ignore[method-assign]
            act()
        return through(name, do)

    world.switch.through = acting  # type: ignore[method-assign,assignment]


def test_under_a_stream_of_changes_each_round_is_committed(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    first = world.member(pool, 2)
    add(world, first)
    numbers = iter(range(3, 100))
    before_each(world, "put-bundle", lambda: add(world, world.member(pool, next(numbers))), times=20)
    pushes = len(world.pushes)
    world.converge(lb, passes=1)
    assert len(world.pushes) == pushes + ROUNDS
    status = {m.id: m.provisioning_status for m in world.tree(lb).of(Member)}
    assert status[first.id] is ACTIVE


def test_the_steps_of_a_dead_worker_are_lost_with_its_operation(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    step = journal.StepRecord(id="s", what="boot-server", seam=Seam.BOOT, subject="a")

    def die_in_a_step(conn: Connection) -> None:
        operation = journal.open_operation(conn, loadbalancer_id=lb.id, what="create", generation=1, epoch=1, host="h")
        journal.open_steps(conn, operation, [step])

    assert world.take(lb.id, "the worker that dies")
    world.database.write(die_in_a_step)
    world.expire_leases()
    world.converge(lb)
    assert "lost" in steps(world)


def test_a_lease_given_back_cannot_be_renewed_by_a_late_keeper(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    lease = world.take(lb.id, "a")
    assert lease
    world.database.write(lambda conn: leases.release(conn, lease))
    with pytest.raises(leases.LeaseLost):
        world.database.write(lambda conn: leases.touch(conn, lease, 30.0))
    assert world.take(lb.id, "b")


def test_a_booted_agent_that_takes_no_bundle_is_replaced_in_the_end(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    lb = world.create()
    with monkeypatch.context() as patched:
        patched.setattr(FakeAgent, "put_bundle", _fail_to_apply)
        world.converge(lb, passes=1)
        (amphora,) = world.tree(lb).amphorae
        assert amphora.status is AmphoraStatus.BOOTING
        world.sql(update(schema.amphora).values(active_at=now() - 601.0))
        world.look_again(lb)
        world.converge(lb, passes=1)
    assert world.fault(lb)["code"] == "no-space"
    world.look_again(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert amphora.id not in {a.id for a in world.tree(lb).amphorae}


def _fail_to_apply(_agent: FakeAgent, _bundle: object) -> None:
    raise AgentFailed("no-space", "the disk is full")


def test_a_server_that_is_adopted_has_a_certificate_with_an_end(make_world: MakeWorld) -> None:
    world = make_world()
    world.cert_validity = 3600.0
    lb = world.create()
    world.switch.arm()
    before_each(world, "boot", lambda: before_each(world, "transaction", _die))
    with pytest.raises(Killed):
        world.converge(lb, passes=1)
    world.switch.armed = False
    assert len(world.compute.found) == 1
    world.expire_leases()
    world.converge(lb, "another worker")
    (amphora,) = world.tree(lb).amphorae
    assert amphora.cert_expiration is not None
    assert amphora.cert_expiration <= utcnow() + timedelta(seconds=3600)


def _die() -> None:
    raise Killed("between a server and its row")


def test_what_runs_but_is_recorded_nowhere_is_not_shown_as_active(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    lb = world.create()
    with monkeypatch.context() as patched:
        patched.setattr(commits, "commit_children", lambda conn, *_: conn.execute(text("no such statement")))
        world.converge(lb, passes=1)
        world.sql(update(schema.load_balancer).values(failing_since=now() - 301.0, due_at=0.0))
        world.converge(lb, passes=1)
    assert world.bundles, "all of it runs"
    assert statuses(world, lb) == {ERROR, ProvisioningStatus.PENDING_CREATE}, "the load balancer, and what is below it"
    world.look_again(lb)
    world.converge(lb)
    assert statuses(world, lb) == {ACTIVE}


def statuses(world: World, loadbalancer: LoadBalancer) -> set[ProvisioningStatus]:
    tree = world.tree(loadbalancer)
    return {
        row.provisioning_status for row in (tree.loadbalancer, *tree.of(Listener), *tree.of(Pool), *tree.of(Member))
    }


class LostAnswers(Database):
    """Each COMMIT is done and its answer lost; a Galera node that lags lets a second run pass up to its own."""

    def write(self, work: Callable[[Connection], Any], *, in_snapshot: bool = False) -> Any:
        done = super().write(work, in_snapshot=in_snapshot)
        with self.engine.connect().execution_options(writer=True) as conn:
            second = conn.begin()
            with suppress(Exception):
                work(conn)
            second.rollback()
        return done


def test_steps_belong_to_the_operation_that_was_committed_where_its_answer_was_lost(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    controller = replace(world.controller(), database=LostAnswers(**vars(world.database)))
    (free,) = world.due()
    try:
        converge(controller, free, "worker")
    finally:
        controller.keeper.stop()
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert set(steps(world)) == {"done"}
    assert scalar(world, select(schema.operation.c.state)) == "done"


def test_a_failure_is_in_the_log_once_however_often_it_is_tried(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    loadbalancer = world.create()
    world.refuse_boots(lambda count: count < 3, QUOTA)
    for tried in range(3):
        world.converge(loadbalancer, passes=1)
        assert steps(world).count("failed") == tried + 1
        world.look_again(loadbalancer)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"load balancer {loadbalancer.id}: boot/quota: no more instances"
    ]


def test_a_server_that_is_still_built_is_fenced_by_its_deletion(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.compute.boots_to = ServerStatus.BUILDING
    world.converge(lb, passes=1)
    (old,) = world.tree(lb).amphorae
    before_each(world, "power-off", lambda: pytest.fail("Nova stops nothing that it still builds"))
    world.sql(update(schema.amphora).values(status=AmphoraStatus.ERROR))
    world.compute.boots_to = ServerStatus.ACTIVE
    world.look_again(lb)
    world.converge(lb)
    assert world.compute.server(old.compute_id or "") is None
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
