"""What is counted of all load balancers, in one statement."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet import Fleet, counted_statements
from sqlalchemy import Connection, update

from tavia.model.statuses import ProvisioningStatus
from tavia.store import intents, leases, schema
from tavia.store.clock import now
from tavia.store.totals import Totals, totals

_lb = schema.load_balancer


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


def counted(fleet: Fleet) -> Totals:
    with fleet.database.read() as conn:
        return totals(conn, {"amphora"})


def change(fleet: Fleet, loadbalancer_id: str, ago: float) -> None:
    """A change was accepted so many seconds ago."""

    def accept(conn: Connection) -> None:
        intents.begin_change(conn, loadbalancer_id)
        conn.execute(update(_lb).where(_lb.c.id == loadbalancer_id).values(pending_since=now() - ago))

    fleet.database.write(accept)


def ids(fleet: Fleet, number: int) -> list[str]:
    return [fleet.loadbalancer(fleet.add()[0]).id for _ in range(number)]


def test_nothing_waits_where_all_is_applied(fleet: Fleet) -> None:
    ids(fleet, 2)
    found = counted(fleet)
    assert (found.due, found.oldest_due, found.oldest_pending) == (0, 0.0, 0.0)
    assert found.by_status[ProvisioningStatus.ACTIVE] == 2
    assert found.by_status[ProvisioningStatus.ERROR] == 0


def test_none_counts_where_there_is_none(fleet: Fleet) -> None:
    assert sum(counted(fleet).by_status.values()) == 0


def test_the_oldest_tells_how_long_changes_wait(fleet: Fleet) -> None:
    one, other, _ = ids(fleet, 3)
    change(fleet, one, 50.0)
    change(fleet, other, 20.0)
    with counted_statements(fleet.database) as statements:
        found = counted(fleet)
    assert len([s for s in statements if s.startswith("SELECT")]) == 1
    assert found.due == 2
    assert 50.0 <= found.oldest_due < 80.0
    assert 50.0 <= found.oldest_pending < 80.0
    assert found.by_status[ProvisioningStatus.PENDING_UPDATE] == 2


def test_one_that_a_worker_converges_is_pending_but_not_in_the_queue(fleet: Fleet) -> None:
    (one,) = ids(fleet, 1)
    change(fleet, one, 50.0)
    fleet.database.write(lambda conn: leases.take(conn, leases.seen(conn, one), "worker", 30.0))
    found = counted(fleet)
    assert (found.due, found.oldest_due) == (0, 0.0)
    assert found.oldest_pending >= 50.0


def test_a_stored_time_counts_from_when_it_came(fleet: Fleet) -> None:
    ids(fleet, 1)
    fleet.database.write(lambda conn: conn.execute(update(_lb).values(due_at=now() - 30.0)))
    found = counted(fleet)
    assert found.due == 1
    assert 30.0 <= found.oldest_due < 60.0
    assert found.oldest_pending == 0.0


def test_load_balancers_of_other_providers_are_nobodys_queue(fleet: Fleet) -> None:
    (one,) = ids(fleet, 1)
    change(fleet, one, 50.0)
    fleet.database.write(lambda conn: conn.execute(update(_lb).values(provider="another")))
    assert counted(fleet).due == 0
