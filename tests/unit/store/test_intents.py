"""What accepting a request writes, and which rows it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fleet import counted_statements
from sqlalchemy import Connection, insert, select
from store_stand import Stand

from tavia.model.resources import Amphora, Configured, HealthMonitor, Listener, Member, Pool
from tavia.model.statuses import AmphoraStatus, OperatingStatus, ProvisioningStatus
from tavia.store import intents, schema
from tavia.store.clock import now, utcnow
from tavia.store.once import CommittedBefore, Run
from tavia.store.rows import to_row

ACTIVE, DELETED, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.DELETED, ProvisioningStatus.ERROR
PENDING_CREATE, PENDING_UPDATE = ProvisioningStatus.PENDING_CREATE, ProvisioningStatus.PENDING_UPDATE
PENDING_DELETE = ProvisioningStatus.PENDING_DELETE

MakeStand = Callable[[], Stand]
of_each_table = pytest.mark.parametrize("resource", [Member, HealthMonitor, Listener, Pool], ids=lambda r: r.table)


def begin_change(stand: Stand, only_from: Any = None) -> int:
    return stand.database.write(lambda conn: intents.begin_change(conn, stand.loadbalancer_id, only_from))


def begin_delete(stand: Stand, only_from: Any = None) -> int:
    return stand.database.write(lambda conn: intents.begin_delete(conn, stand.loadbalancer_id, only_from))


def generations(stand: Stand, resource: type[Configured]) -> dict[str, tuple[int, int | None]]:
    """When each row was last changed, and when it was deleted."""
    rows: Any = stand.read().of(resource)
    return {row.id: (row.changed_generation, row.deleted_generation) for row in rows if row.id != stand.pool_id}


# the load balancer


def test_a_change_takes_the_next_generation_of_its_load_balancer_alone(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    before, others = ours.loadbalancer, theirs.loadbalancer
    assert begin_change(ours) == before.generation + 1
    after = ours.loadbalancer
    assert (after.generation, after.changed_generation) == (before.generation + 1, before.generation + 1)
    assert (before.provisioning_status, after.provisioning_status) == (ACTIVE, PENDING_UPDATE)
    assert after.observed_generation == before.observed_generation
    assert theirs.loadbalancer == others


def test_one_that_was_never_applied_stays_pending_create(stand: Stand) -> None:
    stand.set(provisioning_status=PENDING_CREATE)
    begin_change(stand)
    assert stand.loadbalancer.provisioning_status is PENDING_CREATE


@pytest.mark.parametrize("status", [PENDING_CREATE, PENDING_UPDATE, PENDING_DELETE])
def test_who_is_pending_has_been_so_since_the_first_change(stand: Stand, status: ProvisioningStatus) -> None:
    stand.set(provisioning_status=status, pending_since=1000.0)
    begin_change(stand)
    assert stand.loadbalancer.pending_since == 1000.0


@pytest.mark.parametrize("status", [ACTIVE, ERROR])
def test_who_was_not_pending_is_from_now_on(stand: Stand, status: ProvisioningStatus) -> None:
    stand.set(provisioning_status=status, pending_since=1000.0)
    with stand.database.read() as conn:
        before = conn.execute(select(now())).scalar_one()
    begin_change(stand)
    pending_since = stand.loadbalancer.pending_since
    assert pending_since
    assert pending_since >= before - 0.001


def test_a_change_begins_the_count_of_failures_anew(stand: Stand) -> None:
    stand.set(failing_since=1000.0)
    begin_change(stand)
    assert stand.loadbalancer.failing_since is None


def test_a_change_may_be_accepted_in_some_statuses_only(stand: Stand) -> None:
    begin_change(stand, [ACTIVE])
    before = stand.loadbalancer
    with pytest.raises(intents.Immutable) as refused:
        begin_change(stand, [ACTIVE, ERROR])
    assert refused.value.status is PENDING_UPDATE
    assert stand.loadbalancer == before
    with pytest.raises(intents.Immutable):
        begin_delete(stand, [ACTIVE, ERROR])
    assert stand.loadbalancer == before


def test_who_is_being_deleted_takes_no_change_but_delete_again_and_keeps_since_when(stand: Stand) -> None:
    first = begin_delete(stand)
    assert stand.loadbalancer.deleted_generation == first
    assert stand.loadbalancer.provisioning_status is PENDING_DELETE
    stand.set(provisioning_status=ERROR)
    with pytest.raises(intents.BeingDeleted):
        begin_change(stand)
    assert begin_delete(stand) == first + 1
    again = stand.loadbalancer
    assert (again.generation, again.deleted_generation) == (first + 1, first)
    assert again.provisioning_status is PENDING_DELETE
    with pytest.raises(intents.Immutable):
        begin_delete(stand, [ACTIVE, ERROR])


def test_who_is_gone_or_never_was_takes_nothing(stand: Stand) -> None:
    stand.set(provisioning_status=DELETED, deleted_generation=1)
    never = Stand(stand.database, "never", "was")
    for accept in (begin_change, begin_delete):
        for only_from in (None, [DELETED]):
            with pytest.raises(intents.NoSuchLoadBalancer):
                accept(stand, only_from)
            with pytest.raises(intents.NoSuchLoadBalancer):
                accept(never, only_from)


def test_a_change_whose_answer_was_lost_is_not_accepted_again(stand: Stand) -> None:
    def as_run(run: Run) -> int:
        with stand.database.engine.connect().execution_options(writer=True, run=run) as conn, conn.begin():
            return intents.begin_change(conn, stand.loadbalancer_id)

    generation = as_run(Run("transaction", 3))
    with pytest.raises(CommittedBefore) as found:
        as_run(Run("transaction", 4, is_sure=False))
    assert found.value.run == 3
    assert stand.loadbalancer.generation == generation
    assert as_run(Run("another", 4, is_sure=False)) == generation + 1


# rows below it


@of_each_table
def test_a_row_is_added_at_the_generation_that_asked_for_it(stand: Stand, resource: type[Configured]) -> None:
    row = stand.row(resource)
    generation = stand.accept(lambda conn, g: intents.add(conn, row, g))
    assert generations(stand, resource) == {row.id: (generation, None)}
    assert stand.shown(resource) == {row.id: (PENDING_CREATE, None)}


def test_rows_of_several_resources_are_added_at_once(stand: Stand) -> None:
    pool = stand.row(Pool)
    rows = [pool, stand.row(Member, pool_id=pool.id), stand.row(Member, pool_id=pool.id), stand.row(Listener)]
    generation = stand.accept(lambda conn, g: intents.add_all(conn, rows, g))
    found = [each for resource in (Pool, Member, Listener) for each in generations(stand, resource).items()]
    assert dict(found) == {row.id: (generation, None) for row in rows}


@of_each_table
def test_a_change_is_of_the_rows_that_it_names_but_for_deleted_ones(stand: Stand, resource: type[Configured]) -> None:
    changed, untouched, deleted = stand.applied(resource, 3)
    stand.mark_deleted(resource, deleted)
    before, written = generations(stand, resource), {row.id: row.updated_at for row in stand.read().of(resource)}
    generation = stand.accept(lambda conn, g: intents.change(conn, resource, [changed, deleted], g, name="new"))
    assert generations(stand, resource) == before | {changed: (generation, None)}
    assert stand.shown(resource) == {
        changed: (PENDING_UPDATE, None),
        untouched: (ACTIVE, None),
        deleted: (PENDING_DELETE, None),
    }
    rows: Any = {row.id: row for row in stand.read().of(resource)}
    assert {row_id for row_id, row in rows.items() if row.name == "new"} == {changed}
    assert {row_id for row_id, row in rows.items() if row.updated_at != written.get(row_id)} == {changed}


def test_many_rows_change_at_once_each_to_values_of_its_own(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents, "AT_ONCE", 2)
    one, two, three, untouched, deleted = stand.applied(Member, 5)
    stand.mark_deleted(Member, deleted)
    before = generations(stand, Member)
    values: dict[str, dict[str, Any]] = {
        one: {"weight": 7, "monitor_address": "198.18.0.9"},
        two: {"weight": 8, "backup": True},
        three: {"tags": ["a", "b"], "monitor_address": None},
        deleted: {"weight": 9},
    }
    with counted_statements(stand.database) as statements:
        generation = stand.accept(lambda conn, g: intents.change_each(conn, Member, values, g))
    assert sum(statement.startswith("UPDATE member ") for statement in statements) == 2
    assert generations(stand, Member) == before | dict.fromkeys((one, two, three), (generation, None))
    found = {m.id: (m.weight, m.monitor_address, m.backup, m.tags) for m in stand.read().of(Member)}
    assert found == {
        one: (7, "198.18.0.9", False, []),
        two: (8, None, True, []),
        three: (1, None, False, ["a", "b"]),
        untouched: (1, None, False, []),
        deleted: (1, None, False, []),
    }
    assert stand.shown(Member)[one] == (PENDING_UPDATE, None)


@of_each_table
def test_a_row_that_was_never_applied_stays_pending_create(stand: Stand, resource: type[Configured]) -> None:
    row = stand.row(resource)
    stand.accept(lambda conn, g: intents.add(conn, row, g))
    stand.change(resource, row.id)
    assert stand.shown(resource) == {row.id: (PENDING_CREATE, None)}


def test_the_listeners_of_a_pool_change_with_it_and_lose_it_when_it_goes(stand: Stand) -> None:
    (other,) = stand.applied(Pool, 1)
    rows = [stand.row(Listener, default_pool_id=pool) for pool in (stand.pool_id, None, other)]
    stand.accept(lambda conn, g: intents.add_all(conn, rows, g))
    stand.commit(stand.read())
    its, without, others = (row.id for row in rows)
    generation = stand.accept(lambda conn, g: intents.touch_listeners_of(conn, [stand.pool_id], g))
    assert {row_id for row_id, (changed, _) in generations(stand, Listener).items() if changed == generation} == {its}
    assert stand.shown(Listener) == {its: (PENDING_UPDATE, None), without: (ACTIVE, None), others: (ACTIVE, None)}
    forgetting = stand.accept(lambda conn, g: intents.forget_default_pool(conn, stand.pool_id, g))
    found = {row.id: row.default_pool_id for row in stand.read().of(Listener)}
    assert found == {its: None, without: None, others: other}
    assert {row_id for row_id, (changed, _) in generations(stand, Listener).items() if changed == forgetting} == {its}


def test_a_listener_that_is_deleted_keeps_its_pool_until_it_is_gone(stand: Stand) -> None:
    listener = stand.row(Listener, default_pool_id=stand.pool_id)
    added = stand.accept(lambda conn, g: intents.add(conn, listener, g))
    stand.mark_deleted(Listener, listener.id)
    stand.accept(lambda conn, g: intents.forget_default_pool(conn, stand.pool_id, g))
    (found,) = stand.read().of(Listener)
    assert (found.default_pool_id, found.deleted_generation) == (stand.pool_id, added + 1)


@of_each_table
def test_a_row_is_marked_deleted_once(stand: Stand, resource: type[Configured]) -> None:
    deleted, kept = stand.applied(resource)
    before = generations(stand, resource)
    generation = stand.accept(lambda conn, g: intents.mark_deleted(conn, resource, [deleted], g))
    marked = before | {deleted: (generation, generation)}
    assert generations(stand, resource) == marked
    assert stand.shown(resource) == {deleted: (PENDING_DELETE, None), kept: (ACTIVE, None)}
    stand.mark_deleted(resource, deleted)
    assert generations(stand, resource) == marked


def test_a_pool_that_is_deleted_takes_along_what_is_below_it_and_nothing_else(stand: Stand) -> None:
    (pool,) = stand.applied(Pool, 1)
    below = [stand.row(resource, pool_id=pool) for resource in (Member, Member, HealthMonitor)]
    beside = [stand.row(resource) for resource in (Member, HealthMonitor, Listener)]
    stand.accept(lambda conn, g: intents.add_all(conn, [*below, *beside], g))
    stand.mark_deleted(Pool, pool)
    tree = stand.read()
    rows: list[Any] = [row for resource in (Pool, Member, HealthMonitor, Listener) for row in tree.of(resource)]
    marked = {row.id for row in rows if row.deleted_generation is not None}
    assert marked == {pool, *(row.id for row in below)}


def test_a_cascade_marks_all_below_one_load_balancer(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    for stand in (ours, theirs):
        for resource in (Member, HealthMonitor, Listener):
            stand.applied(resource, 1)

    def marked(stand: Stand) -> set[bool]:
        tree = stand.read()
        rows: list[Any] = [row for resource in (Pool, Member, HealthMonitor, Listener) for row in tree.of(resource)]
        assert len(rows) == 4
        return {row.deleted_generation is not None for row in rows}

    ours.accept(lambda conn, g: intents.mark_children_deleted(conn, ours.loadbalancer_id, g))
    assert (marked(ours), marked(theirs)) == ({True}, {False})


def test_where_a_monitor_goes_nobody_tells_how_its_pools_members_are(stand: Stand) -> None:
    (other,) = stand.applied(Pool, 1)
    rows = [stand.row(Member, operating_status=OperatingStatus.ONLINE, pool_id=pool) for pool in (stand.pool_id, other)]
    stand.accept(lambda conn, g: intents.add_all(conn, rows, g))
    stand.accept(lambda conn, g: intents.unmonitor(conn, stand.pool_id))
    status = {member.id: member.operating_status for member in stand.read().of(Member)}
    assert status == {rows[0].id: OperatingStatus.NO_MONITOR, rows[1].id: OperatingStatus.ONLINE}


# amphorae


def amphora(stand: Stand, own_id: str, status: AmphoraStatus, **values: Any) -> str:
    row = Amphora(id=own_id, loadbalancer_id=stand.loadbalancer_id, status=status, created_at=utcnow(), **values)
    stand.execute(insert(schema.amphora).values(to_row(row)))
    return own_id


def replaced(stand: Stand) -> dict[str, int]:
    with stand.database.read() as conn:
        rows = conn.execute(select(schema.amphora.c.id, schema.amphora.c.replace_generation))
        return {row.id: row.replace_generation for row in rows if row.replace_generation is not None}


def test_a_failover_marks_what_stands_once_and_says_how_many(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    for status in AmphoraStatus:
        amphora(ours, f"our {status}", status)
    marked = amphora(ours, "marked", AmphoraStatus.ALLOCATED, replace_generation=1)
    amphora(theirs, "their ALLOCATED", AmphoraStatus.ALLOCATED)
    standing = {"our ALLOCATED", "our BOOTING", "our ERROR"}

    def replace(conn: Connection, g: int) -> None:
        found = intents.standing_amphorae(conn, ours.loadbalancer_id)
        assert set(found) == {*standing, marked}
        everything = [*found, "our DELETED", "our PENDING_DELETE", "their ALLOCATED"]
        assert intents.replace_amphorae(conn, ours.loadbalancer_id, g, everything) == 3
        assert intents.replace_amphorae(conn, ours.loadbalancer_id, g, everything) == 0

    generation = ours.accept(replace)
    assert replaced(ours) == {marked: 1} | dict.fromkeys(standing, generation)


def test_one_amphora_may_be_replaced_alone(stand: Stand) -> None:
    one, _other = (amphora(stand, name, AmphoraStatus.ALLOCATED) for name in ("one", "other"))
    generation = stand.accept(lambda conn, g: intents.replace_amphorae(conn, stand.loadbalancer_id, g, [one]))
    assert replaced(stand) == {one: generation}


@pytest.mark.parametrize("status", [AmphoraStatus.DELETED, AmphoraStatus.PENDING_DELETE])
def test_one_that_came_back_is_removed_again_and_its_load_balancer_looked_at(
    make_stand: MakeStand, status: AmphoraStatus
) -> None:
    ours, theirs = make_stand(), make_stand()
    amphora(ours, "back", status)
    amphora(ours, "gone", AmphoraStatus.DELETED)
    amphora(theirs, "theirs", AmphoraStatus.DELETED)
    ours.database.write(lambda conn: intents.remove_again(conn, "back"))
    with ours.database.read() as conn:
        found = {row.id: row.status for row in conn.execute(select(schema.amphora.c.id, schema.amphora.c.status))}
    assert found == {"back": "PENDING_DELETE", "gone": "DELETED", "theirs": "DELETED"}
    assert ours.loadbalancer.due_at
    assert theirs.loadbalancer.due_at is None


def test_one_that_serves_is_never_removed_by_what_it_says(stand: Stand) -> None:
    amphora(stand, "serves", AmphoraStatus.ALLOCATED)
    stand.database.write(lambda conn: intents.remove_again(conn, "serves"))
    with stand.database.read() as conn:
        assert conn.execute(select(schema.amphora.c.status)).scalar_one() == "ALLOCATED"
