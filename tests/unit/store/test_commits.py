"""What a worker commits, against what was accepted after it had read the tree: that stays as it was accepted."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tavia.model.resources import Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Fault, Seam
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Tree
from tavia.store import commits, intents, schema, trees
from tavia.store.database import Database
from tavia.store.rows import utcnow

ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
PENDING_CREATE, PENDING_UPDATE = ProvisioningStatus.PENDING_CREATE, ProvisioningStatus.PENDING_UPDATE
PENDING_DELETE = ProvisioningStatus.PENDING_DELETE

REFUSAL = Fault(code="refused", seam=Seam.AGENT, message="[ALERT] no", since="2026-01-02T03:04:05Z")

of_each_table = pytest.mark.parametrize("resource", [Member, HealthMonitor, Listener, Pool], ids=lambda r: r.table)


@dataclass
class Stand:
    """A load balancer with a pool of its own to hang rows on."""

    database: Database
    loadbalancer_id: str
    pool_id: str

    def row(self, resource: type[Configured]) -> Configured:
        given: dict[type[Configured], dict[str, Any]] = {
            Pool: {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
            Listener: {"protocol": "HTTP", "protocol_port": 80},
            Member: {"pool_id": self.pool_id, "address": "198.18.0.1", "protocol_port": 80},
            HealthMonitor: {"pool_id": self.pool_id, "type": "TCP", "delay": 5, "timeout": 4, "max_retries": 2},
        }
        own: dict[str, Any] = {"project_id": "p", "created_at": utcnow(), "loadbalancer_id": self.loadbalancer_id}
        return resource(id=str(uuid.uuid4()), **own, **given[resource])

    def applied(self, resource: type[Configured], count: int = 2) -> list[str]:
        """The ids of new rows that run already."""
        rows = [self.row(resource) for _ in range(count)]
        self.accept(lambda conn, g: intents.add_all(conn, rows, g))
        self.commit(self.read())
        return [row.id for row in rows]

    def accept(self, work: Callable[[Connection, int], object]) -> int:
        def transaction(conn: Connection) -> int:
            generation = intents.begin_change(conn, self.loadbalancer_id)
            work(conn, generation)
            return generation

        return self.database.write(transaction)

    def change(self, resource: type[Configured], *ids: str) -> None:
        self.accept(lambda conn, g: intents.change(conn, resource, ids, g))

    def mark_deleted(self, resource: type[Configured], *ids: str) -> None:
        self.accept(lambda conn, g: intents.mark_deleted(conn, resource, ids, g))

    def read(self) -> Tree:
        with self.database.read() as conn:
            return trees.read_tree(conn, self.loadbalancer_id)

    def commit(self, tree: Tree, *refused: str, forms: dict[str, dict[str, Any]] | None = None) -> None:
        faults = dict.fromkeys(refused, REFUSAL)
        self.database.write(lambda conn: commits.commit_children(conn, tree, faults, forms or {}))

    def shown(self, resource: type[Configured]) -> dict[str, tuple[ProvisioningStatus, str | None]]:
        """The status of each row, and the code of its fault."""
        table = schema.TABLES[resource].c
        with self.database.read() as conn:
            rows = conn.execute(
                select(table.id, table.provisioning_status, table.fault).where(
                    table.loadbalancer_id == self.loadbalancer_id, table.id != self.pool_id
                )
            )
            return {
                row.id: (ProvisioningStatus(row.provisioning_status), row.fault and row.fault["code"]) for row in rows
            }


@pytest.fixture
def make_stand(database: Database) -> Callable[[], Stand]:
    def make() -> Stand:
        loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
        database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
        stand = Stand(database, loadbalancer.id, str(uuid.uuid4()))
        pool = stand.row(Pool)
        pool.id = stand.pool_id
        stand.accept(lambda conn, g: intents.add(conn, pool, g))
        stand.commit(stand.read())
        return stand

    return make


@pytest.fixture
def stand(make_stand: Callable[[], Stand]) -> Stand:
    return make_stand()


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
def test_rows_of_another_load_balancer_are_left_alone(
    make_stand: Callable[[], Stand], resource: type[Configured]
) -> None:
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
