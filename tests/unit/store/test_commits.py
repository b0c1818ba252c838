"""What a worker commits, against what was accepted after it had read the tree: that stays as it was accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest
from fleet import counted_statements
from sqlalchemy import insert, select
from store_stand import REFUSAL, Stand

from tavia.model.resources import Amphora, Configured, HealthMonitor, Listener, Member, Pool
from tavia.model.statuses import OperatingStatus, ProvisioningStatus
from tavia.store import commits, intents, schema
from tavia.store.clock import now, utcnow
from tavia.store.rows import to_row

ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
PENDING_CREATE, PENDING_UPDATE = ProvisioningStatus.PENDING_CREATE, ProvisioningStatus.PENDING_UPDATE
PENDING_DELETE = ProvisioningStatus.PENDING_DELETE

MakeStand = Callable[[], Stand]

of_each_table = pytest.mark.parametrize("resource", [Member, HealthMonitor, Listener, Pool], ids=lambda r: r.table)


@of_each_table
def test_a_row_changed_again_after_the_tree_was_read_stays_pending(stand: Stand, resource: type[Configured]) -> None:
    changed, changed_again = stand.applied(resource)
    stand.change(resource, changed, changed_again)
    tree = stand.read()
    stand.change(resource, changed_again)
    stand.commit(tree)
    assert stand.shown(resource) == {changed: (ACTIVE, None), changed_again: (PENDING_UPDATE, None)}
    stand.commit(stand.read())
    assert stand.shown(resource) == {changed: (ACTIVE, None), changed_again: (ACTIVE, None)}


@of_each_table
def test_a_row_added_after_the_tree_was_read_stays_pending(stand: Stand, resource: type[Configured]) -> None:
    early, late = stand.row(resource), stand.row(resource)
    stand.accept(lambda conn, g: intents.add(conn, early, g))
    tree = stand.read()
    stand.accept(lambda conn, g: intents.add(conn, late, g))
    stand.commit(tree)
    assert stand.shown(resource) == {early.id: (ACTIVE, None), late.id: (PENDING_CREATE, None)}


@of_each_table
def test_a_row_deleted_after_the_tree_was_read_stays_and_stays_pending(
    stand: Stand, resource: type[Configured]
) -> None:
    deleted, deleted_later, kept = stand.applied(resource, 3)
    stand.mark_deleted(resource, deleted)
    stand.change(resource, kept, deleted_later)
    tree = stand.read()
    stand.mark_deleted(resource, deleted_later)
    stand.commit(tree)
    assert stand.shown(resource) == {deleted_later: (PENDING_DELETE, None), kept: (ACTIVE, None)}
    stand.commit(stand.read())
    assert stand.shown(resource) == {kept: (ACTIVE, None)}


@of_each_table
def test_a_row_that_was_refused_but_changed_after_the_tree_was_read_stays_pending(
    stand: Stand, resource: type[Configured]
) -> None:
    refused, mended, runs = stand.applied(resource, 3)
    stand.change(resource, refused, mended, runs)
    tree = stand.read()
    stand.change(resource, mended)
    stand.commit(tree, refused, mended)
    assert stand.shown(resource) == {
        refused: (ERROR, "refused"),
        mended: (PENDING_UPDATE, None),
        runs: (ACTIVE, None),
    }


@of_each_table
def test_a_row_that_was_refused_and_is_deleted_after_the_tree_was_read_stays_pending(
    stand: Stand, resource: type[Configured]
) -> None:
    (deleted,) = stand.applied(resource, 1)
    stand.change(resource, deleted)
    tree = stand.read()
    stand.mark_deleted(resource, deleted)
    stand.commit(tree, deleted)
    assert stand.shown(resource) == {deleted: (PENDING_DELETE, None)}


@of_each_table
def test_a_row_that_was_refused_is_active_without_fault_once_it_is_applied(
    stand: Stand, resource: type[Configured]
) -> None:
    (row,) = stand.applied(resource, 1)
    stand.change(resource, row)
    stand.commit(stand.read(), row)
    assert stand.shown(resource) == {row: (ERROR, "refused")}
    stand.commit(stand.read())
    assert stand.shown(resource) == {row: (ACTIVE, None)}


@of_each_table
def test_rows_of_another_load_balancer_are_left_alone(make_stand: MakeStand, resource: type[Configured]) -> None:
    ours, theirs = make_stand(), make_stand()
    changed, deleted, refused = theirs.applied(resource, 3)
    theirs.change(resource, changed)
    theirs.mark_deleted(resource, deleted)
    theirs.change(resource, refused)
    theirs.commit(theirs.read(), refused)
    theirs.change(resource, changed)
    before = theirs.shown(resource)
    of_ours = ours.applied(resource, 3)
    for _ in range(5):
        ours.change(resource, *of_ours)  # until its generation is the greater one
    ours.mark_deleted(resource, of_ours[0])
    ours.commit(ours.read(), of_ours[1])
    assert theirs.shown(resource) == before


def test_a_pools_and_a_listeners_form_that_runs_is_kept_for_each(stand: Stand) -> None:
    for resource in (Pool, Listener):
        changed, unchanged, late = stand.applied(resource, 3)
        stand.commit(stand.read(), forms={row: {"form": row} for row in (changed, unchanged)})
        stand.change(resource, changed, late)
        tree = stand.read()
        stand.change(resource, late)
        stand.commit(tree, forms={changed: {"form": "new"}, late: {"form": "late"}})
        rows: Any = {row.id: row for row in stand.read().of(resource)}
        assert rows[changed].applied_form == {"form": "new"}
        assert rows[unchanged].applied_form == {"form": unchanged}
        assert rows[late].applied_form is None, "what runs of it is not what stands in its row"


def test_a_form_is_kept_of_what_runs_already_too(stand: Stand) -> None:
    (pool,) = stand.applied(Pool, 1)
    stand.commit(stand.read(), forms={pool: {"form": "same"}})
    forms = {row.id: row.applied_form for row in stand.read().of(Pool)}
    assert forms == {pool: {"form": "same"}, stand.pool_id: None}


def test_a_monitor_that_runs_is_online_or_offline_for_nothing_reports_on_it(stand: Stand) -> None:
    up, down = (stand.row(HealthMonitor, admin_state_up=up) for up in (True, False))
    reported = [stand.row(resource, operating_status=OperatingStatus.DEGRADED) for resource in (Pool, Listener, Member)]
    stand.accept(lambda conn, g: intents.add_all(conn, [up, down, *reported], g))
    stand.commit(stand.read())
    tree = stand.read()
    rows: Any = {row.id: row for resource in (HealthMonitor, Pool, Listener, Member) for row in tree.of(resource)}
    assert rows[up.id].operating_status is OperatingStatus.ONLINE
    assert rows[down.id].operating_status is OperatingStatus.OFFLINE
    assert {rows[row.id].operating_status for row in reported} == {OperatingStatus.DEGRADED}


def test_only_tables_in_which_something_changed_cost_a_statement(stand: Stand) -> None:
    (member,) = stand.applied(Member, 1)
    stand.applied(Listener, 1)
    stand.change(Member, member)
    tree = stand.read()
    with counted_statements(stand.database) as statements:
        stand.commit(tree)
    assert [statement.split()[:2] for statement in statements if "BEGIN" not in statement] == [["UPDATE", "member"]]


def test_a_refusal_costs_the_same_statements_however_many_rows_it_is_of(stand: Stand) -> None:
    def cost(members: list[str]) -> int:
        stand.change(Member, *members)
        tree = stand.read()
        with counted_statements(stand.database) as statements:
            stand.commit(tree, *members)
        assert {stand.shown(Member)[member] for member in members} == {(ERROR, "refused")}
        return len(statements)

    assert cost(stand.applied(Member, 20)) == cost(stand.applied(Member, 1))


# the load balancer


def due_in(stand: Stand) -> float:
    lb = schema.load_balancer.c
    with stand.database.read() as conn:
        return float(conn.execute(select(lb.due_at - now()).where(lb.id == stand.loadbalancer_id)).scalar_one())


def test_what_is_converged_is_active_and_not_due_any_more(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    generation = ours.accept(lambda conn, g: None)
    theirs.accept(lambda conn, g: None)
    ours.set(fault={"code": "old"}, failing_since=1000.0, due_at=7.0)
    others = theirs.loadbalancer
    assert ours.converged(generation, seen_due_at=7.0) is False
    done = ours.loadbalancer
    assert done.provisioning_status is ACTIVE
    assert (done.observed_generation, done.attempted_generation) == (generation, generation)
    assert (done.fault, done.failing_since, done.due_at) == (None, None, None)
    assert theirs.loadbalancer == others


def test_a_change_accepted_while_its_load_balancer_was_converged_keeps_it_pending(stand: Stand) -> None:
    generation = stand.accept(lambda conn, g: None)
    stand.accept(lambda conn, g: None)
    assert stand.converged(generation) is True
    found = stand.loadbalancer
    assert found.provisioning_status is PENDING_UPDATE
    assert (found.observed_generation, found.attempted_generation) == (generation, generation)


def test_one_whose_deletion_was_accepted_is_never_active_again(stand: Stand) -> None:
    generation = stand.database.write(lambda conn: intents.begin_delete(conn, stand.loadbalancer_id))
    assert stand.converged(generation) is True
    assert stand.loadbalancer.provisioning_status is PENDING_DELETE


def test_one_of_which_a_half_was_not_reached_is_active_says_so_and_is_looked_at_again(stand: Stand) -> None:
    assert stand.converged(fault=REFUSAL, is_failing=True, again_in=60.0) is False
    found = stand.loadbalancer
    assert (found.provisioning_status, found.fault) == (ACTIVE, asdict(REFUSAL))
    assert 0.0 < due_in(stand) <= 60.0


@pytest.mark.parametrize("again_in", [None, 60.0])
def test_another_look_that_was_asked_for_since_the_tree_was_read_is_taken(stand: Stand, again_in: float | None) -> None:
    for seen, asked_for in ((None, 7.0), (7.0, 8.0)):
        stand.set(due_at=asked_for)
        stand.converged(seen_due_at=seen, again_in=again_in)
        assert stand.loadbalancer.due_at == asked_for


def test_one_that_waits_stays_as_it_is_and_comes_back(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    generation = ours.accept(lambda conn, g: None)
    ours.set(fault={"code": "old"}, failing_since=1000.0)
    before, others = ours.loadbalancer, theirs.loadbalancer
    wait = partial(commits.commit_wait, loadbalancer_id=ours.loadbalancer_id, generation=generation, seconds=60.0)
    ours.database.write(wait)
    assert 0.0 < due_in(ours) <= 60.0
    waiting = ours.loadbalancer
    assert waiting == replace(
        before, attempted_generation=generation, due_at=waiting.due_at, updated_at=waiting.updated_at
    )
    ours.database.write(partial(wait, fault=REFUSAL))
    assert ours.loadbalancer.fault == asdict(REFUSAL)
    assert theirs.loadbalancer == others


def fail(stand: Stand, generation: int, shown: ProvisioningStatus | None) -> None:
    stand.database.write(
        lambda conn: commits.commit_failure(
            conn, stand.loadbalancer_id, generation, REFUSAL, shown=shown, retry_in=60.0
        )
    )


@pytest.mark.parametrize("shown", [ERROR, ACTIVE, None])
def test_a_failed_attempt_shows_what_is_to_be_shown_and_is_repeated(
    make_stand: MakeStand, shown: ProvisioningStatus | None
) -> None:
    ours, theirs = make_stand(), make_stand()
    generation, others = ours.accept(lambda conn, g: None), theirs.loadbalancer
    fail(ours, generation, shown)
    found = ours.loadbalancer
    assert found.provisioning_status is (shown or PENDING_UPDATE)
    assert (found.attempted_generation, found.fault) == (generation, asdict(REFUSAL))
    assert found.observed_generation == (generation if shown is ACTIVE else generation - 1)
    assert 0.0 < due_in(ours) <= 60.0
    assert theirs.loadbalancer == others


@pytest.mark.parametrize("shown", [ERROR, ACTIVE, None])
def test_a_failed_attempt_shows_nothing_where_a_newer_change_was_accepted(
    stand: Stand, shown: ProvisioningStatus | None
) -> None:
    generation = stand.accept(lambda conn, g: None)
    stand.accept(lambda conn, g: None)
    fail(stand, generation, shown)
    assert stand.loadbalancer.provisioning_status is PENDING_UPDATE


@pytest.mark.parametrize("shown", [ERROR, ACTIVE, None])
def test_one_that_is_gone_stays_gone_whatever_fails(stand: Stand, shown: ProvisioningStatus | None) -> None:
    stand.set(provisioning_status=ProvisioningStatus.DELETED)
    fail(stand, stand.loadbalancer.generation, shown)
    assert stand.loadbalancer.provisioning_status is ProvisioningStatus.DELETED


def test_failures_in_a_row_count_from_the_first(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()

    def failing_for(stand: Stand) -> float:
        with stand.database.read() as conn:
            return commits.failing_for(conn, stand.loadbalancer_id)

    assert failing_for(ours) == 0
    fail(ours, ours.loadbalancer.generation, None)
    assert 0 <= failing_for(ours) < 500.0
    ours.set(failing_since=now() - 1000.0)
    fail(ours, ours.loadbalancer.generation, None)
    assert 999.9 <= failing_for(ours) < 1500.0
    assert failing_for(theirs) == 0


def rows_of(stand: Stand) -> list[Any]:
    """All that a load balancer has in the database, itself first."""
    tree = stand.read()
    return [tree.loadbalancer, *(row for each in (Member, HealthMonitor, Listener, Pool) for row in tree.of(each))]


def test_of_one_that_is_gone_its_own_row_is_left_until_it_is_purged(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    for stand in (ours, theirs):
        for resource in (Member, HealthMonitor, Listener):
            stand.applied(resource, 1)
        keys = {"listener_id": stand.loadbalancer_id, "amphora_id": "a", "loadbalancer_id": stand.loadbalancer_id}
        stand.execute(insert(schema.listener_statistics).values(keys | dict.fromkeys(schema.COUNTERS, 1)))
    generation = ours.database.write(lambda conn: intents.begin_delete(conn, ours.loadbalancer_id))
    ours.set(fault={"code": "old"}, failing_since=1000.0, due_at=7.0, operating_status=OperatingStatus.ONLINE)
    others = rows_of(theirs)
    assert len(others) == 5
    ours.database.write(lambda conn: commits.commit_deleted(conn, ours.loadbalancer_id, 7.0))
    (row,) = rows_of(ours)
    assert (row.provisioning_status, row.operating_status) == (ProvisioningStatus.DELETED, OperatingStatus.OFFLINE)
    assert (row.observed_generation, row.attempted_generation) == (generation, generation)
    assert (row.fault, row.failing_since, row.due_at) == (None, None, None)
    assert row.updated_at, "from when on it is kept for some time"
    assert rows_of(theirs) == others
    with ours.database.read() as conn:
        left = conn.execute(select(schema.listener_statistics.c.loadbalancer_id)).scalars().all()
    assert left == [theirs.loadbalancer_id]


def test_one_that_is_gone_is_looked_at_again_where_somebody_asked_for_it_meanwhile(stand: Stand) -> None:
    stand.set(due_at=7.0)
    stand.database.write(lambda conn: commits.commit_deleted(conn, stand.loadbalancer_id, None))
    assert stand.loadbalancer.due_at == 7.0


def test_amphorae_follow_the_port_of_their_vip(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    for stand in (ours, theirs):
        row = Amphora(id=stand.pool_id, loadbalancer_id=stand.loadbalancer_id, ha_port_id="old", created_at=utcnow())
        stand.set(vip_port_id="old")
        stand.execute(insert(schema.amphora).values(to_row(row)))

    def ports(stand: Stand) -> tuple[str | None, str | None]:
        tree = stand.read()
        return tree.loadbalancer.vip_port_id, tree.amphorae[0].ha_port_id

    ours.database.write(lambda conn: commits.change_vip(conn, ours.loadbalancer, {"vip_port_id": "new"}))
    assert (ports(ours), ports(theirs)) == (("new", "new"), ("old", "old"))
    ours.database.write(lambda conn: commits.change_vip(conn, ours.loadbalancer, {"security_hash": "hash"}))
    assert ports(ours) == ("new", "new")
    assert ours.loadbalancer.security_hash == "hash"
    assert theirs.loadbalancer.security_hash is None
