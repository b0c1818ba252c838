"""Old rows go, with all that hangs on them; what may still be needed stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet
from sqlalchemy import func, insert, select, update

from tavia.housekeeping.service import clean
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus
from tavia.store import commits, journal, schema
from tavia.store.clock import utcnow

WEEK = 7 * 24 * 3600.0


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


def count(fleet: Fleet, table: Any) -> int:
    with fleet.database.read() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def delete(fleet: Fleet, amphora_id: str, ago: float) -> None:
    """The load balancer's deletion ended ``ago`` seconds ago, and its amphora's."""
    lb_id = fleet.row(amphora_id).loadbalancer_id
    then = utcnow() - timedelta(seconds=ago)

    def work(conn: Any) -> None:
        commits.commit_deleted(conn, lb_id)
        conn.execute(update(schema.load_balancer).where(schema.load_balancer.c.id == lb_id).values(updated_at=then))
        failure = SeamError(Seam.CONTROL, "test", "something happened")
        journal.event(conn, loadbalancer_id=lb_id, what="test", failure=failure, host="here")

    fleet.database.write(work)
    fleet.change(amphora_id, status=AmphoraStatus.DELETED, updated_at=then)


def test_a_load_balancer_deleted_long_ago_goes_with_its_lease_its_amphorae_and_its_journal(fleet: Fleet) -> None:
    (old,), (recent,), (alive,) = fleet.add(), fleet.add(), fleet.add()
    delete(fleet, old, ago=WEEK + 60)
    delete(fleet, recent, ago=WEEK - 60)
    clean(fleet.database, WEEK, WEEK)
    for table in (schema.load_balancer, schema.lease, schema.amphora, schema.amphora_health):
        assert count(fleet, table) == 2, table.name
    assert count(fleet, schema.operation) == 1
    assert fleet.loadbalancer(alive).provisioning_status == "ACTIVE"


def test_one_whose_amphora_came_back_stays_until_that_is_removed(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    delete(fleet, amphora_id, ago=2 * WEEK)
    fleet.change(amphora_id, status=AmphoraStatus.PENDING_DELETE)
    clean(fleet.database, WEEK, WEEK)
    assert count(fleet, schema.load_balancer) == 1
    fleet.change(amphora_id, status=AmphoraStatus.DELETED)
    clean(fleet.database, WEEK, WEEK)
    assert count(fleet, schema.load_balancer) == 0


def test_a_replaced_amphora_goes_after_its_own_time(fleet: Fleet) -> None:
    (amphora_id,), (other,) = fleet.add(), fleet.add()
    fleet.change(amphora_id, status=AmphoraStatus.DELETED, updated_at=utcnow() - timedelta(seconds=100))
    clean(fleet.database, WEEK, 1000)
    assert count(fleet, schema.amphora) == 2
    clean(fleet.database, WEEK, 50)
    assert count(fleet, schema.amphora) == 1
    assert fleet.row(other).status == "ALLOCATED"


def test_an_amphora_that_left_keeps_what_it_counted_for_listeners_that_are_there(fleet: Fleet) -> None:
    (gone,), (stays,) = fleet.add(), fleet.add()
    counters = {"bytes_in": 1, "bytes_out": 2, "active_connections": 3, "total_connections": 4, "request_errors": 5}

    def its_counters(conn: Any) -> None:
        for amphora_id in (gone, stays):
            lb_id = fleet.row(amphora_id).loadbalancer_id
            for listener_id in (f"web-{lb_id[:8]}", f"deleted-{lb_id[:8]}"):
                row = {"listener_id": listener_id, "amphora_id": amphora_id, "loadbalancer_id": lb_id}
                conn.execute(insert(schema.listener_statistics).values(row | counters))

    fleet.database.write(its_counters)
    fleet.change(gone, status=AmphoraStatus.DELETED)
    clean(fleet.database, WEEK, WEEK)
    with fleet.database.read() as conn:
        rows = {row.amphora_id: row for row in conn.execute(select(schema.listener_statistics))}
    assert count(fleet, schema.listener_statistics) == 2
    assert (rows[gone].total_connections, rows[stays].total_connections) == (4, 4)


def test_the_journal_of_one_that_lives_keeps_what_is_recent(fleet: Fleet) -> None:
    (amphora_id,) = fleet.add()
    lb_id = fleet.row(amphora_id).loadbalancer_id
    failure = SeamError(Seam.CONTROL, "test", "something happened")

    def happen(conn: Any) -> None:
        for what in ("old", "recent"):
            journal.event(conn, loadbalancer_id=lb_id, what=what, failure=failure, host="here")

    fleet.database.write(happen)
    operation = schema.operation
    an_old_one = update(operation).where(operation.c.what == "old").values(started=operation.c.started - WEEK - 60)
    fleet.database.write(lambda conn: conn.execute(an_old_one))
    clean(fleet.database, WEEK, WEEK)
    with fleet.database.read() as conn:
        assert set(conn.execute(select(operation.c.what)).scalars()) == {"recent"}
