"""The journal is read newest first, along an index, page by page; what a dead worker left is told as lost."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus
from tavia.store import history, intents, journal, leases, liveness, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.store.history import Criteria, Operation
from tavia.store.journal import StepRecord


def loadbalancer(database: Database, name: str = "web", **given: Any) -> str:
    made = LoadBalancer(id=str(uuid.uuid4()), name=name, project_id="p", created_at=utcnow(), **given)
    database.write(lambda conn: intents.create_loadbalancer(conn, made))
    return made.id


def begin(database: Database, lb_id: str, what: str = "update", host: str = "ctl-1") -> str:
    """An operation that began later than all before it: SQLite's clock counts milliseconds."""
    with database.read() as conn:
        before = liveness.database_time(conn)
    while True:
        with database.read() as conn:
            if liveness.database_time(conn) > before:
                break
    return database.write(
        lambda conn: journal.open_operation(conn, loadbalancer_id=lb_id, what=what, generation=2, epoch=1, host=host)
    )


def finished(database: Database, lb_id: str, state: str = "done", **given: Any) -> str:
    made = begin(database, lb_id, **given)
    failure = SeamError(Seam.BOOT, "no-quota", "no cores left") if state == "failed" else None
    database.write(lambda conn: journal.close_operation(conn, made, state, failure))
    return made


def read(database: Database, **wanted: Any) -> list[Operation]:
    with database.read() as conn:
        return history.operations(conn, Criteria(**wanted))


def ids(database: Database, **wanted: Any) -> list[str]:
    return [operation.id for operation in read(database, **wanted)]


def hold(database: Database, lb_id: str, ttl: float = 30.0) -> None:
    assert database.write(lambda conn: leases.take(conn, leases.seen(conn, lb_id), "a worker", ttl))


def test_the_newest_comes_first_with_its_load_balancers_name_and_what_failed(database: Database) -> None:
    lb_id = loadbalancer(database)
    older, newer = finished(database, lb_id), finished(database, lb_id, "failed")
    first, second = read(database)
    assert (first.id, second.id) == (newer, older)
    assert (first.loadbalancer_name, first.seam, first.code, first.reason) == (
        "web",
        "boot",
        "no-quota",
        "no cores left",
    )
    assert first.took is not None and 0 <= first.took < 60
    assert second.code is None


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"what": "failover"}, ["failover"]),
        ({"host": "ctl-2"}, ["create"]),
        ({"state": "failed"}, ["delete"]),
        ({"limit": 2}, ["delete", "failover"]),
        ({"since": 60.0}, ["delete", "failover", "create"]),
        ({"since": 60.0, "host": "ctl-1", "state": "done"}, ["failover"]),
    ],
)
def test_only_those_wanted_are_listed(database: Database, condition: dict[str, Any], expected: list[str]) -> None:
    lb_id = loadbalancer(database)
    long_ago = finished(database, lb_id, host="ctl-2", state="handed-over", what="resync")
    operation = schema.operation
    database.write(
        lambda conn: conn.execute(
            update(operation).where(operation.c.id == long_ago).values(started=now() - 3600, host="ctl-0")
        )
    )
    finished(database, lb_id, what="create", host="ctl-2")
    finished(database, lb_id, what="failover")
    finished(database, lb_id, "failed", what="delete")
    assert [found.what for found in read(database, **condition)] == expected


def test_one_load_balancers_are_listed_alone(database: Database) -> None:
    mine, other = loadbalancer(database), loadbalancer(database)
    made = finished(database, mine)
    finished(database, other)
    assert ids(database, loadbalancer_id=mine) == [made]


def test_pages_follow_each_other_also_where_many_began_at_the_same_moment(database: Database) -> None:
    lb_id = loadbalancer(database)
    made = {finished(database, lb_id) for _ in range(7)}
    database.write(lambda conn: conn.execute(update(schema.operation).values(started=1234567890.123)))
    pages, marker = [], None
    while page := ids(database, limit=3, before=marker):
        pages.append(page)
        marker = page[-1]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {found for page in pages for found in page} == made


def test_an_operation_runs_while_its_lease_lives_and_is_lost_when_that_ran_out(database: Database) -> None:
    lb_id = loadbalancer(database)
    hold(database, lb_id)
    begin(database, lb_id)
    assert [found.state for found in read(database, state="running")] == ["running"]
    database.write(lambda conn: conn.execute(update(schema.lease).values(until=now() - 1)))
    assert read(database, state="running") == []
    (lost,) = read(database, state="lost")
    assert (lost.state, lost.ended, lost.took) == ("lost", None, None)


def test_its_steps_come_in_the_order_in_which_they_began_and_a_running_one_is_shown(database: Database) -> None:
    lb_id = loadbalancer(database)
    hold(database, lb_id)
    made = begin(database, lb_id)
    ports = StepRecord(id="s1", what="make-ports", seam=Seam.BOOT, subject="amphora-1")
    boot = StepRecord(id="s2", what="boot-server", seam=Seam.BOOT, subject="amphora-1")
    database.write(lambda conn: journal.open_steps(conn, made, [ports]))
    database.write(lambda conn: journal.step_failed(conn, "s1", SeamError(Seam.BOOT, "no-port", "no port")))
    database.write(lambda conn: journal.open_steps(conn, made, [boot]))
    with database.read() as conn:
        found = history.steps(conn, history.operation(conn, made))
    assert [(step.what, step.state, step.code) for step in found] == [
        ("make-ports", "failed", "no-port"),
        ("boot-server", "running", None),
    ]
    assert all(step.took is not None and step.took >= 0 for step in found)


@pytest.mark.parametrize("state", ["done", "lost"])
def test_a_step_that_was_not_closed_ended_when_and_as_its_operation_did(database: Database, state: str) -> None:
    lb_id = loadbalancer(database)
    hold(database, lb_id)
    made = begin(database, lb_id)
    closed, left = (StepRecord(id=i, what="push-bundle", seam=Seam.AGENT, subject="a") for i in ("s1", "s2"))
    database.write(lambda conn: journal.open_steps(conn, made, [closed, left]))
    database.write(lambda conn: journal.steps_done(conn, ["s1"]))
    if state == "lost":
        database.write(lambda conn: journal.mark_lost(conn, lb_id))
    else:
        database.write(lambda conn: journal.close_operation(conn, made, state))
    with database.read() as conn:
        ended = history.operation(conn, made)
        first, second = history.steps(conn, ended)
    assert (first.state, second.state) == ("done", state)
    assert second.ended == ended.ended
    assert second.ended is not None
    assert second.took == pytest.approx(second.ended - second.started, abs=1e-5)


def test_the_beginning_of_an_id_is_enough_where_it_is_unique(database: Database) -> None:
    lb_id = loadbalancer(database)
    values = {"loadbalancer_id": lb_id, "what": "x", "generation": 1, "epoch": 1, "state": "done", "host": "h"}
    rows = [values | {"id": found, "started": 1.0} for found in ("aa-1", "aa-2", "b_-3")]
    database.write(lambda conn: conn.execute(insert(schema.operation), rows))
    with database.read() as conn:
        assert history.operation(conn, "b_").id == "b_-3"
        assert history.operation(conn, "aa-2").id == "aa-2"
        with pytest.raises(SeamError, match="several operations begin with 'aa': aa-1, aa-2"):
            history.operation(conn, "aa")
        with pytest.raises(SeamError, match="no operation '_'"):
            history.operation(conn, "_")


def test_a_load_balancer_is_found_by_id_or_by_its_only_name(database: Database) -> None:
    web, one, other = (loadbalancer(database, name) for name in ("web", "twice", "twice"))
    with database.read() as conn:
        assert history.loadbalancer_id(conn, web) == history.loadbalancer_id(conn, "web") == web
        with pytest.raises(SeamError) as many:
            history.loadbalancer_id(conn, "twice")
        with pytest.raises(SeamError, match="no load balancer with the id or name 'nowhere'"):
            history.loadbalancer_id(conn, "nowhere")
    assert one in str(many.value) and other in str(many.value)


def test_a_name_means_the_living_one_before_deleted_ones(database: Database) -> None:
    gone = loadbalancer(database, provisioning_status=ProvisioningStatus.DELETED)
    with database.read() as conn:
        assert history.loadbalancer_id(conn, "web") == gone
    living = loadbalancer(database)
    with database.read() as conn:
        assert history.loadbalancer_id(conn, "web") == living


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # the words of its EXPLAIN
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Criteria(limit=20), "ix_operation_started"),
        (Criteria(limit=20, since=3600.0), "ix_operation_started"),
        (Criteria(limit=20, state="failed", host="h"), "ix_operation_started"),
        (Criteria(limit=20, loadbalancer_id="x"), "ix_operation_loadbalancer"),
        (Criteria(limit=20, loadbalancer_id="x", state="failed"), "ix_operation_loadbalancer"),
    ],
)
def test_a_list_walks_an_index_and_sorts_nothing_but_equal_times(
    database: Database, wanted: Criteria, index: str
) -> None:
    statement = history.listing(wanted).compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.read() as conn:
        plan = [row.detail for row in conn.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    assert any(index in line for line in plan), plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan
