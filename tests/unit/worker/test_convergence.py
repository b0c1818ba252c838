"""The rules of the loop, each through a whole convergence on a real database."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from world import World, later

from tavia.cloud.protocols import ServerStatus
from tavia.model.resources import CHILDREN, Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Role, Topology
from tavia.store import intents, leases, liveness, schema
from tavia.store.clock import now
from tavia.worker.rounds import begin, converge

MakeWorld = Callable[..., World]
ACTIVE, ERROR, DELETED = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR, ProvisioningStatus.DELETED


def journal(world: World) -> list[tuple[str, str, str | None]]:
    with world.database.read() as conn:
        rows = conn.execute(
            select(schema.operation.c.what, schema.operation.c.state, schema.operation.c.code).order_by(
                schema.operation.c.started
            )
        )
        return [(row.what, row.state, row.code) for row in rows]


def add(world: World, row: Listener | Member) -> None:
    """One accepted request that adds a row."""

    def accept(conn: Connection) -> None:
        intents.add(conn, row, intents.begin_change(conn, row.loadbalancer_id))

    world.database.write(accept)


def test_a_load_balancer_is_active_once_every_amphora_runs_it(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    tree = world.tree(lb)
    assert tree.loadbalancer.provisioning_status is ACTIVE
    assert {a.role for a in tree.amphorae} == {Role.MASTER, Role.BACKUP}
    master, backup = (world.bundles[a.id].files["keepalived.conf"] for a in tree.amphorae)
    assert f"{tree.amphorae[1].vrrp_ip}" in master
    assert f"{tree.amphorae[0].vrrp_ip}" in backup
    assert journal(world) == [("create", "done", None)]


def test_what_turned_active_says_since_when(make_world: MakeWorld) -> None:
    """As in Octavia, which notes the time at every write of a row: who waits for a change waits for that too."""
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    tree = world.tree(lb)
    rows: list[Any] = [tree.loadbalancer, *tree.amphorae, *(row for resource in CHILDREN for row in tree.of(resource))]
    assert {type(row) for row in rows} >= {LoadBalancer, Listener, Pool, Member}
    assert [row.id for row in rows if row.updated_at is None or row.updated_at <= row.created_at] == []


def test_changes_accepted_meanwhile_are_applied_together(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    for number in range(2, 30):
        add(world, world.member(pool, number))
    pushes = len(world.pushes)
    world.converge(lb)
    assert len(world.pushes) == pushes + 1
    assert {m.provisioning_status for m in world.tree(lb).of(Member)} == {ACTIVE}


def test_a_change_accepted_after_the_tree_was_read_stays_pending(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    early, late = world.member(pool, 2), world.member(pool, 3)
    add(world, early)
    (free,) = world.due()
    run = begin(world.controller(), free, "worker")
    assert run
    add(world, late)
    assert run.run(), "it was told that there is more to do"
    tree = world.tree(lb)
    status = {member.id: member.provisioning_status for member in tree.of(Member)}
    assert (status[early.id], status[late.id]) == (ACTIVE, ProvisioningStatus.PENDING_CREATE)
    assert tree.loadbalancer.provisioning_status is ProvisioningStatus.PENDING_UPDATE
    world.converge(lb)
    tree = world.tree(lb)
    assert {each.provisioning_status for each in (tree.loadbalancer, *tree.rows)} == {ACTIVE}


def test_a_child_deleted_before_it_was_ever_applied_is_deleted_like_any_other(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    member = world.member(world.tree(lb).of(Pool)[0], 2)
    add(world, member)
    world.change(lb, lambda conn, g: intents.mark_deleted(conn, Member, [member.id], g))
    world.converge(lb)
    assert member.id not in {m.id for m in world.tree(lb).of(Member)}
    assert member.address not in world.bundles[world.tree(lb).amphorae[0].id].files["haproxy.cfg"]


def test_an_unreachable_half_does_not_block(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    reachable, cut_off = world.tree(lb).amphorae
    world.cut_off.add(cut_off.id)
    member = world.member(world.tree(lb).of(Pool)[0], 2)
    add(world, member)
    world.converge(lb, passes=1)
    tree = world.tree(lb)
    assert tree.loadbalancer.provisioning_status is ACTIVE
    assert tree.loadbalancer.fault
    assert tree.loadbalancer.fault["seam"] == Seam.MGMT_NET
    assert member.address in world.bundles[reachable.id].files["haproxy.cfg"]

    world.cut_off.clear()
    world.look_again(lb)
    world.converge(lb)
    assert member.address in world.bundles[cut_off.id].files["haproxy.cfg"]
    assert world.tree(lb).loadbalancer.fault is None


def test_the_longer_a_half_was_not_reached_the_less_often_it_is_tried(make_world: MakeWorld) -> None:
    """Each try takes a whole connect timeout; a new change begins anew."""
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    world.cut_off.add(world.tree(lb).amphorae[1].id)
    lb_row = schema.load_balancer.c

    def next_try(failing_for: float) -> float:
        world.sql(update(schema.load_balancer).values(failing_since=now() - failing_for, due_at=now()))
        world.converge(lb, passes=1)
        with world.database.read() as conn:
            return float(conn.execute(select(lb_row.due_at - now())).scalar_one())

    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.failing_since is not None
    assert [round(next_try(seconds)) for seconds in (0.0, 20.0, 3600.0)] == [5, 20, 60]
    world.cut_off.clear()
    world.look_again(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.failing_since is None


def test_a_change_waits_while_no_amphora_can_be_reached_and_shows_error_only_after_a_while(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.cut_off.add(world.tree(lb).amphorae[0].id)
    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.PENDING_UPDATE
    fault = world.tree(lb).loadbalancer.fault
    assert fault
    assert fault["code"] == "agent-connect-refused"

    row = schema.load_balancer
    world.sql(update(row).values(failing_since=row.c.failing_since - 301.0))
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ERROR

    world.cut_off.clear()
    world.look_again(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert {m.provisioning_status for m in world.tree(lb).of(Member)} == {ACTIVE}


def test_error_does_not_flicker_and_accepts_changes(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.ERROR
    lb = world.create()
    row = schema.load_balancer
    world.converge(lb, passes=1)
    world.sql(update(row).values(failing_since=row.c.failing_since - 301.0))
    for _ in range(3):
        world.look_again(lb)
        world.converge(lb, passes=1)
        assert world.tree(lb).loadbalancer.provisioning_status is ERROR
    world.compute.boots_to = ServerStatus.ACTIVE
    world.change(lb, lambda conn, g: None)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.PENDING_UPDATE
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert len(world.compute.found) == 1, "every failed server was removed"


def test_an_amphora_row_boots_at_most_one_server(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.ERROR
    lb = world.create()
    for _ in range(3):
        world.look_again(lb)
        world.converge(lb, passes=1)
    assert len(world.compute.boots) > 1
    assert len(set(world.compute.boots)) == len(world.compute.boots)


def test_a_permanent_cause_is_error_at_once(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.compute.boot = _no_quota  # type: ignore[method-assign,assignment]
    world.converge(lb, passes=1)
    tree = world.tree(lb)
    assert tree.loadbalancer.provisioning_status is ERROR
    assert tree.loadbalancer.fault
    assert (tree.loadbalancer.fault["seam"], tree.loadbalancer.fault["code"]) == (Seam.BOOT, "quota")
    assert journal(world)[-1] == ("create", "failed", "quota")


def _no_quota(_spec: object) -> str:
    raise SeamError(Seam.BOOT, "quota", "no more instances", permanent=True)


def test_members_change_while_a_replacement_boots(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (old,) = world.tree(lb).amphorae
    world.compute.boots_to = ServerStatus.BUILDING
    world.failover(lb)
    world.converge(lb, passes=1)
    member = world.member(world.tree(lb).of(Pool)[0], 2)
    add(world, member)
    world.converge(lb, passes=1)
    assert member.address in world.bundles[old.id].files["haproxy.cfg"]
    tree = world.tree(lb)
    assert {m.provisioning_status for m in tree.of(Member)} == {ACTIVE}
    assert tree.loadbalancer.provisioning_status is ProvisioningStatus.PENDING_UPDATE
    with world.database.read() as conn:
        assert conn.execute(select(schema.lease.c.until)).scalar_one() == 0, "waiting holds no lease"


def test_the_old_amphora_is_fenced_before_the_new_one_gets_the_vip(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.failover(lb)
    world.switch.arm()
    world.converge(lb)
    effects = [name for name in world.switch.names if name != "transaction"]
    assert effects.index("power-off") < effects.index("allow-addresses")
    last_push = len(effects) - 1 - effects[::-1].index("put-bundle")
    assert effects.index("allow-addresses") < last_push < effects.index("delete-server")


def test_a_failover_replaces_a_pair_one_half_at_a_time(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    before = {a.id for a in world.tree(lb).amphorae}
    world.failover(lb)
    world.switch.arm()
    world.converge(lb)
    assert not before & {a.id for a in world.tree(lb).amphorae}
    changes = [n for n in world.switch.names if n in ("power-off", "put-bundle")]
    first, second = (i for i, n in enumerate(changes) if n == "power-off")
    assert "put-bundle" in changes[first:second]


def test_a_second_failover_marks_nothing_that_is_marked(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.failover(lb)
    world.failover(lb)
    world.converge(lb)
    assert len(world.compute.boots) == 2


def test_a_worker_that_was_overtaken_writes_and_pushes_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    controller = world.controller()
    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    (free,) = world.due()
    run = begin(controller, free, "paused")
    assert run
    world.expire_leases()
    world.converge(lb, "overtaker")
    held = dict(world.bundles)
    with pytest.raises(leases.LeaseLost):
        run._work()
    converge(controller, free, "paused")
    assert world.bundles == held
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE


def test_a_paused_workers_bundle_is_refused_even_if_it_skips_the_database(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (amphora,) = world.tree(lb).amphorae
    held = world.bundles[amphora.id]
    assert held.fence.refuses(type(held.fence)(held.fence.epoch - 1, 99, "paused"))
    assert held.fence.refuses(type(held.fence)(held.fence.epoch, 99, "another owner"))


def test_after_a_restored_database_it_goes_on_by_itself(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    for amphora in world.tree(lb).amphorae:
        held = world.bundles[amphora.id]
        world.bundles[amphora.id] = type(held)(
            amphora_id=held.amphora_id,
            loadbalancer_id=held.loadbalancer_id,
            generation=held.generation + 7,
            fence=later(held.fence, 7),
            files=held.files,
            interfaces=held.interfaces,
        )
    add(world, world.member(world.tree(lb).of(Pool)[0], 2))
    world.converge(lb)
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE
    assert {world.bundles[a.id].generation for a in world.tree(lb).amphorae} == {world.tree(lb).generation}
    assert ("database-went-back", "done", "fence-refused") in journal(world)


@pytest.mark.parametrize("names_lines", [True, False])
def test_what_haproxy_refuses_is_held_back_and_its_siblings_go_on(make_world: MakeWorld, names_lines: bool) -> None:
    world = make_world()
    world.names_lines = names_lines
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    good_before, bad, good_after = (world.listener(lb, port, pool) for port in (81, 666, 82))
    for listener in (good_before, bad, good_after):
        add(world, listener)
    world.forbidden = f"{lb.vip_address}:666"
    world.converge(lb, passes=1)
    tree = world.tree(lb)
    status = {listener.protocol_port: listener.provisioning_status for listener in tree.of(Listener)}
    assert status == {80: ACTIVE, 81: ACTIVE, 666: ERROR, 82: ACTIVE}
    assert tree.loadbalancer.provisioning_status is ACTIVE
    fault = next(listener.fault for listener in tree.of(Listener) if listener.protocol_port == 666)
    assert fault
    assert "[ALERT]" in fault["message"]
    assert world.forbidden not in world.bundles[tree.amphorae[0].id].files["haproxy.cfg"]

    world.change(lb, lambda conn, g: intents.mark_deleted(conn, Listener, [bad.id], g))
    world.converge(lb)
    assert {listener.provisioning_status for listener in world.tree(lb).of(Listener)} == {ACTIVE}


def test_a_refused_change_keeps_its_last_applied_form(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    pool = world.tree(lb).of(Pool)[0]
    bad = world.member(pool, 40)
    add(world, bad)
    world.change(lb, lambda conn, g: intents.change(conn, Pool, [pool.id], g))
    world.forbidden = bad.address
    world.converge(lb, passes=1)
    config = world.bundles[world.tree(lb).amphorae[0].id].files["haproxy.cfg"]
    assert "198.19.0.201" in config
    tree = world.tree(lb)
    assert tree.of(Pool)[0].provisioning_status is ERROR
    assert {m.address: m.provisioning_status for m in tree.of(Member)} == {"198.19.0.201": ACTIVE, bad.address: ERROR}


def test_a_delete_that_fails_keeps_its_intent_and_never_turns_active(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    world.delete(lb)
    delete_server = world.compute.delete

    def refuse(server_id: str) -> None:
        raise SeamError(Seam.BOOT, "compute-down", "no answer", permanent=True)

    world.compute.delete = refuse  # type: ignore[method-assign]
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ERROR
    with pytest.raises(intents.BeingDeleted):
        world.change(lb, lambda conn, g: None)
    world.compute.delete = delete_server  # type: ignore[method-assign]
    world.delete(lb)
    world.converge(lb)
    with world.database.read() as conn:
        assert conn.execute(select(schema.load_balancer.c.provisioning_status)).scalar_one() == "DELETED"
    assert not world.networking.found


def test_a_heartbeat_from_a_replaced_amphora_repeats_its_removal(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (old,) = world.tree(lb).amphorae
    came_back = world.compute.found[old.compute_id or ""]
    world.failover(lb)
    world.converge(lb)
    world.compute.found[came_back.id] = came_back

    def hear(conn: Connection) -> None:
        intents.remove_again(conn, old.id)

    world.database.write(hear)
    world.converge(lb)
    assert came_back.id not in world.compute.found
    assert [a.status for a in world.tree(lb).amphorae] == [AmphoraStatus.ALLOCATED]


def test_an_amphora_whose_configuration_is_asked_for_again_gets_its_bundle_and_the_controllers_addresses(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    lb = world.create()
    world.converge(lb)
    (amphora,) = world.tree(lb).amphorae
    assert world.agent_configs == []
    world.database.write(lambda conn: liveness.push_again(conn, amphora.id))
    world.converge(lb)
    assert [(key, "198.18.0.2:5555" in text) for key, text in world.agent_configs] == [(amphora.id, True)]
    assert world.tree(lb).amphorae[0].applied_hash == world.bundles[amphora.id].hash
    world.look_again(lb)
    world.converge(lb)
    assert len(world.agent_configs) == 1


def test_an_agent_that_knows_its_bundle_by_another_hash_is_not_pushed_again(make_world: MakeWorld) -> None:
    world = make_world()
    world.has_older_agents = True
    lb = world.create()
    world.converge(lb)
    world.look_again(lb)
    world.converge(lb)
    (amphora,) = world.tree(lb).amphorae
    assert (len(world.pushes), amphora.held_hash) == (1, "its own")
    assert amphora.applied_hash == world.bundles[amphora.id].hash


def test_the_vips_port_stays_where_it_was_not_ours(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create()
    world.sql(update(schema.load_balancer).values(vip_port_ours=False))
    world.converge(lb)
    world.delete(lb)
    world.converge(lb)
    assert list(world.networking.found) == [lb.vip_port_id]


@pytest.mark.parametrize(("length", "form"), [(0, "amphora-[0-9a-f-]{36}"), (1, "a"), (12, "a[A-Z0-9]{11}")])
def test_a_servers_name_tells_the_amphora_or_nothing(make_world: MakeWorld, length: int, form: str) -> None:
    world = make_world()
    world.random_name_length = length
    lb = world.create()
    world.converge(lb)
    (server,) = world.compute.found.values()
    assert re.fullmatch(form, server.name)
