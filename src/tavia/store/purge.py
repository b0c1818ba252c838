"""What housekeeping removes from the database, and what it compares the cloud with.

A row's age is told by ``updated_at``, a host's clock: it is compared with days here, never with a lease's seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, delete, select

from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
from tavia.store import orphan_removal, schema
from tavia.store.clock import now, utcnow

_amphora = schema.amphora.c
_lb = schema.load_balancer.c
_statistics = schema.listener_statistics.c

BATCH = 200
"""Most load balancers or amphorae that one transaction removes."""
JOURNAL_BATCH = 5000
"""The same of operations: one that waits or fails for long leaves one every few seconds."""


def purge_load_balancers(conn: Connection, expiry_age: float) -> int:
    """Remove load balancers that were deleted ``expiry_age`` seconds ago, with their journal; returns how many.

    One whose amphora came back, and is removed again, stays until that is done.
    """
    its_amphorae_stand = select(_amphora.id).where(
        _amphora.loadbalancer_id == _lb.id, _amphora.status != AmphoraStatus.DELETED
    )
    ids = list(
        conn.execute(
            select(_lb.id)
            .where(
                _lb.provisioning_status == ProvisioningStatus.DELETED,
                _lb.updated_at <= utcnow() - timedelta(seconds=expiry_age),
                ~its_amphorae_stand.exists(),
            )
            .limit(BATCH)
        ).scalars()
    )
    if ids:
        for table in (schema.listener_statistics, schema.operation, schema.amphora):
            conn.execute(delete(table).where(table.c.loadbalancer_id.in_(ids)))
        conn.execute(delete(schema.load_balancer).where(_lb.id.in_(ids)))
    return len(ids)


def purge_amphorae(conn: Connection, expiry_age: float) -> int:
    """Remove rows of amphorae that were deleted ``expiry_age`` seconds ago; returns how many."""
    ids = list(
        conn.execute(
            select(_amphora.id)
            .where(
                _amphora.status == AmphoraStatus.DELETED,
                _amphora.updated_at <= utcnow() - timedelta(seconds=expiry_age),
            )
            .limit(BATCH)
        ).scalars()
    )
    if ids:
        conn.execute(delete(schema.amphora).where(_amphora.id.in_(ids)))
    return len(ids)


def purge_journal(conn: Connection, expiry_age: float) -> int:
    """Remove operations that began ``expiry_age`` seconds ago, with their steps; returns how many.

    Changes that were accepted so long ago go too. What was last said of orphans' removal holds however long ago it was.
    """
    operation, change = schema.operation.c, schema.accepted_change.c
    accepted = select(change.id).where(change.accepted <= now() - expiry_age).limit(JOURNAL_BATCH)
    conn.execute(delete(schema.accepted_change).where(change.id.in_(list(conn.execute(accepted).scalars()))))
    began_long_ago = (
        select(operation.id)
        .where(
            operation.started <= now() - expiry_age,
            operation.what.not_in((orphan_removal.STOPPED, orphan_removal.ALLOWED)),
        )
        .limit(JOURNAL_BATCH)
    )
    ids = list(conn.execute(began_long_ago).scalars())
    if ids:
        conn.execute(delete(schema.operation).where(operation.id.in_(ids)))
    return len(ids)


def tidy_statistics(conn: Connection) -> None:
    """Counters of listeners that are gone are dropped."""
    conn.execute(delete(schema.listener_statistics).where(_statistics.listener_id.not_in(select(schema.listener.c.id))))


@dataclass(frozen=True, slots=True)
class Owners:
    """Whom cloud resources may belong to: ids of amphorae and load balancers that are not deleted.

    ``deleted_loadbalancers`` are those that still have a row; ``loadbalancer_of`` leads from any amphora that has one,
    deleted or not, to its load balancer.
    """

    amphorae: frozenset[str]
    loadbalancers: frozenset[str]
    deleted_loadbalancers: frozenset[str]
    loadbalancer_of: Mapping[str, str | None]


def owners(conn: Connection) -> Owners:
    """Read after the cloud was listed: a row is written before its resource is made."""
    rows = conn.execute(select(_amphora.id, _amphora.status, _amphora.loadbalancer_id)).all()
    loadbalancers = conn.execute(select(_lb.id, _lb.provisioning_status)).all()
    deleted = frozenset(row.id for row in loadbalancers if row.provisioning_status == ProvisioningStatus.DELETED)
    return Owners(
        amphorae=frozenset(row.id for row in rows if row.status != AmphoraStatus.DELETED),
        loadbalancers=frozenset(row.id for row in loadbalancers) - deleted,
        deleted_loadbalancers=deleted,
        loadbalancer_of={row.id: row.loadbalancer_id for row in rows},
    )
