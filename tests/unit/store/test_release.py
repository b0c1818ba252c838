"""An operator hands a load balancer to the workers again; one that a worker holds is left to it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import select, update

from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus
from tavia.store import history, intents, journal, leases, release, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.store.due import due as due_leases
from tavia.store.history import Criteria
from tavia.store.leases import Lease, LeaseLost
from tavia.store.release import Holder

OURS = frozenset({"amphora"})


def loadbalancer(database: Database, **given: Any) -> str:
    """One that nobody would look at for an hour."""
    made = LoadBalancer(
        id=str(uuid.uuid4()), project_id="p", created_at=utcnow(), generation=3, attempted_generation=3, **given
    )

    def create(conn: Any) -> None:
        intents.create_loadbalancer(conn, made)
        lb = schema.load_balancer
        conn.execute(update(lb).where(lb.c.id == made.id).values(due_at=now() + 3600, failing_since=now() - 7200))

    database.write(create)
    return made.id


def released(database: Database, lb_id: str) -> Holder | None:
    return database.write(
        lambda conn: release.release(conn, lb_id, providers=OURS, boots_with={}, asked_by="ada on ctl-1", host="ctl-1")
    )


def due(database: Database) -> list[str]:
    with database.read() as conn:
        return [each.lease.loadbalancer_id for each in due_leases(conn, OURS, 10)]


def work(database: Database, lb_id: str) -> Lease:
    """A worker that took it and has one step running."""
    lease = database.write(lambda conn: leases.take(conn, leases.seen(conn, lb_id), "a worker", 30.0))
    assert lease

    def begin(conn: Any) -> None:
        operation = journal.open_operation(
            conn, loadbalancer_id=lb_id, what="update", generation=3, epoch=lease.epoch, host="ctl-2"
        )
        step = journal.StepRecord(id=str(uuid.uuid4()), what="push-bundle", seam=Seam.AGENT, subject="amphora-1")
        journal.open_steps(conn, operation, [step])

    database.write(begin)
    return lease


def journalled(database: Database, lb_id: str) -> list[tuple[str, str]]:
    with database.read() as conn:
        return [(o.what, o.state) for o in history.operations(conn, Criteria(loadbalancer_id=lb_id))]


@pytest.mark.parametrize("status", [s for s in ProvisioningStatus if s is not ProvisioningStatus.DELETED])
def test_in_whatever_status_it_is_due_at_once_and_its_pauses_begin_anew(
    database: Database, status: ProvisioningStatus
) -> None:
    lb_id = loadbalancer(database, provisioning_status=status)
    assert due(database) == []
    assert released(database, lb_id) is None
    assert due(database) == [lb_id]
    with database.read() as conn:
        row = conn.execute(select(schema.load_balancer)).one()
    assert (row.provisioning_status, row.generation, row.failing_since) == (status, 3, None)


def test_the_journal_says_who_asked(database: Database) -> None:
    lb_id = loadbalancer(database)
    released(database, lb_id)
    with database.read() as conn:
        (event,) = history.operations(conn, Criteria(loadbalancer_id=lb_id))
    assert (event.what, event.code, event.state, event.host) == ("release", "released", "done", "ctl-1")
    assert "ada on ctl-1" in (event.reason or "")


def test_asking_twice_does_no_harm(database: Database) -> None:
    lb_id = loadbalancer(database)
    assert released(database, lb_id) is None
    assert released(database, lb_id) is None
    assert due(database) == [lb_id]


def test_while_a_worker_holds_it_nothing_changes_and_it_is_told_who_and_until_when(database: Database) -> None:
    lb_id = loadbalancer(database)
    lease = work(database, lb_id)
    holder = released(database, lb_id)
    assert holder and holder.operation and holder.progress
    assert (holder.operation.host, holder.operation.what) == ("ctl-2", "update")
    with database.read() as conn:
        at = conn.execute(select(now())).scalar_one()
        row = conn.execute(select(schema.load_balancer)).one()
    assert at < holder.until <= at + 30
    assert holder.operation.started <= holder.progress <= at
    assert holder.latest(step_deadline=20.0, lease_ttl=30.0) == holder.progress + 50.0
    assert row.due_at > at + 3000
    assert journalled(database, lb_id) == [("update", "running")]
    database.write(lambda conn: leases.touch(conn, lease, 30.0))


def test_what_a_dead_worker_left_is_taken_over_and_a_frozen_one_cannot_take_it_back(database: Database) -> None:
    lb_id = loadbalancer(database, provisioning_status=ProvisioningStatus.PENDING_UPDATE)
    frozen = work(database, lb_id)
    database.write(lambda conn: conn.execute(update(schema.lease).values(until=now() - 1)))
    assert released(database, lb_id) is None
    assert due(database) == [lb_id]
    assert sorted(journalled(database, lb_id)) == [("release", "done"), ("update", "lost")]
    with pytest.raises(LeaseLost):
        database.write(lambda conn: leases.touch(conn, frozen, 30.0))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"provider": "ovn"}, "other-provider"),
        ({"provisioning_status": ProvisioningStatus.DELETED}, "loadbalancer-deleted"),
        ({"provider": "ovn", "provisioning_status": ProvisioningStatus.DELETED}, "other-provider"),
    ],
)
def test_one_that_is_not_the_workers_is_refused_and_left_alone(
    database: Database, given: dict[str, Any], code: str
) -> None:
    lb_id = loadbalancer(database, **given)
    with pytest.raises(SeamError) as refused:
        released(database, lb_id)
    assert refused.value.code == code
    assert journalled(database, lb_id) == []


def test_one_that_was_purged_meanwhile_is_told_as_deleted(database: Database) -> None:
    with pytest.raises(SeamError) as refused:
        released(database, str(uuid.uuid4()))
    assert refused.value.code == "loadbalancer-deleted"


def test_its_situation_has_what_runs_and_what_failed_last(database: Database) -> None:
    lb_id = loadbalancer(database)

    def fail(conn: Any) -> None:
        operation = journal.open_operation(
            conn, loadbalancer_id=lb_id, what="create", generation=1, epoch=1, host="ctl-1"
        )
        journal.close_operation(conn, operation, "failed", SeamError(Seam.BOOT, "no-quota", "no cores left"))

    database.write(fail)
    work(database, lb_id)
    with database.read() as conn:
        found = release.situation(conn, lb_id)
    assert found.holder and found.holder.operation and found.last
    assert found.holder.operation.id == found.last.id
    assert found.last_failure and found.last_failure.code == "no-quota"
    assert abs(found.now - (found.loadbalancer.due_at or 0) + 3600) < 60
