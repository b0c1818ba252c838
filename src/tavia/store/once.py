"""A change happens once, also where the answer to its COMMIT was lost and nobody knows whether it was done.

:meth:`tavia.store.database.Database.write` runs such a transaction again. The transaction proves itself: each run
writes the transaction's id where only one can write it, and a run that comes after a COMMIT without an answer looks
there first, with a lock, so it waits for a COMMIT that is still on its way. Where the id stands in the database the
earlier run was committed: :class:`CommittedBefore` ends this one, and the caller gets the earlier one's result.

An accepted change writes it into ``accepted_change`` (:func:`accept`), a worker's fenced write into its lease
(:func:`tavia.store.leases.touch`). On Galera a node that has not seen the earlier run yet lets this one pass until its
COMMIT, which certification refuses: both write the same row. Every other transaction must be harmless when it is
done twice.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, literal, select

from tavia.store import schema
from tavia.store.clock import now


class CommittedBefore(Exception):
    """An earlier run of this transaction was committed, though the answer to its COMMIT was lost."""

    def __init__(self, run: int) -> None:
        super().__init__(run)
        self.run = run


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a transaction. ``is_sure`` is false where an earlier one may have been committed."""

    transaction: str = field(default_factory=lambda: str(uuid.uuid4()))
    number: int = 0
    is_sure: bool = True


def run_of(conn: Connection) -> Run:
    """What :meth:`tavia.store.database.Database.write` says about the transaction on this connection."""
    run = conn.get_execution_options().get("run")
    return run if isinstance(run, Run) else Run()


def accept(conn: Connection, loadbalancer_id: str) -> int:
    """Write down that a change of a load balancer is accepted in this transaction; returns its generation.

    Call it after the generation was taken, in the same transaction; :func:`refuse_second_run` stands before that.
    """
    run, lb, change = run_of(conn), schema.load_balancer.c, schema.accepted_change.c
    accepted = conn.execute(
        insert(schema.accepted_change)
        .from_select(
            [change.id, change.run, change.loadbalancer_id, change.generation, change.accepted],
            select(literal(run.transaction), literal(run.number), lb.id, lb.generation, now()).where(
                lb.id == loadbalancer_id
            ),
        )
        .returning(change.generation)
    )
    return int(accepted.scalar_one())


def refuse_second_run(conn: Connection) -> None:
    """The first thing that an accepting transaction does; no statement where no COMMIT was lost. Raises
    CommittedBefore.
    """
    run, change = run_of(conn), schema.accepted_change.c
    if not run.is_sure:
        found = select(change.run).where(change.id == run.transaction).with_for_update()
        earlier = conn.execute(found).scalar_one_or_none()
        if earlier is not None:
            raise CommittedBefore(earlier)
