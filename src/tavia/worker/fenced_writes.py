"""What one convergence writes under its lease, in its operation of the journal. The convergence calls it.

All of it is fenced: the first statement of each transaction touches the lease, and one that finds it taken over writes
nothing (:class:`~tavia.store.leases.LeaseLost` ends the convergence without a trace).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from tavia.amphora.protocol import FenceRefused
from tavia.model.seams import SeamError
from tavia.store import journal, leases
from tavia.store.database import Database
from tavia.store.leases import Lease
from tavia.worker.lease_keeper import LeaseKeeper

LOG = logging.getLogger(__name__)
T = TypeVar("T")


def nothing(_conn: Connection) -> Any:
    """No work of its own."""


class FencedWrites:
    """``what`` is the operation's name. ``after_a_loss``: the last holder of the lease did not give it back.

    ``generation`` is the one that is converged to; ``operation`` the id of the operation, once something was written;
    ``written`` the mark of the last write (:func:`tavia.store.leases.mark`); ``only_looked``: it has changed nothing.
    """

    def __init__(
        self, database: Database, keeper: LeaseKeeper, lease: Lease, what: str, host: str, *, after_a_loss: bool
    ) -> None:
        self.lease = lease
        self.generation = 0
        self.operation = ""
        self.written: str | None = None
        self.only_looked = True
        self._database = database
        self._keeper = keeper
        self._what = what
        self._host = host
        self._after_a_loss = after_a_loss
        self._is_journalled = False
        self._unwritten: list[Callable[[Connection], None]] = []
        self._unclosed: list[str] = []

    @property
    def are_due(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unwritten)

    def later(self, work: Callable[[Connection], None]) -> None:
        """Write this with what is written next."""
        self._unwritten.append(work)

    def steps_done(self, step_ids: Iterable[str]) -> None:
        """These steps went well: that is written with what is written next, or with the operation's own end."""
        self._unclosed += step_ids

    def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction, with what was left unwritten so far. Raises LeaseLost, and what ``work`` raises."""
        return self._write(work, partial(leases.touch, ttl=self._keeper.ttl))

    def end(self, state: str, work: Callable[[Connection], T], failure: SeamError | None = None) -> T:
        """The last transaction: the operation ends and the lease is given back."""

        def last(conn: Connection) -> T:
            result = work(conn)
            journal.close_operation(conn, self.operation, state, failure)
            if state == "waiting" and self.only_looked:
                journal.renew_last(conn, self.operation)
            return result

        if state == "done":
            self._unclosed = []  # they end with the operation
        return self._write(last, leases.release)

    def go_past(self, refused: FenceRefused) -> None:
        """Raise our epoch above the one that an agent holds. Raises LeaseLost where we were overtaken."""
        old = self.lease
        held = max(refused.held.epoch, old.epoch)
        raised = self._database.write(lambda conn: leases.raise_epoch(conn, old, held))
        what, host = journal.WENT_BACK, self._host
        LOG.warning("load balancer %s: %s, epoch %s -> %s", old.loadbalancer_id, what, old.epoch, raised.epoch)
        self._keeper.drop(old)
        self._keeper.hold(raised, time.monotonic())
        self.lease = raised
        self.later(
            lambda conn: journal.event(
                conn, loadbalancer_id=raised.loadbalancer_id, what=what, failure=refused, host=host
            )
        )

    def _write(self, work: Callable[[Connection], T], fence: Callable[[Connection, Lease], None]) -> T:
        """``work`` comes before what was unwritten: it may change the load balancer's row, and the API too locks that
        before the rows below it. Where it fails, what was unwritten is not tried again: it may be why.
        """
        unwritten, self._unwritten = self._unwritten, []
        if self._unclosed:
            unwritten.append(partial(journal.steps_done, step_ids=self._unclosed))
            self._unclosed = []
        at = time.monotonic()

        def fenced(conn: Connection) -> tuple[str, str, T]:
            fence(conn, self.lease)
            if not self._is_journalled:
                self._open_operation(conn)
            result = work(conn)
            for late in unwritten:
                late(conn)
            return leases.mark(conn), self.operation, result

        # Mark and operation of the run that was committed, which need not be the last one.
        self.written, self.operation, result = self._database.write(fenced)
        self._is_journalled = True
        self._keeper.renewed(self.lease, at)
        return result

    def _open_operation(self, conn: Connection) -> None:
        if self._after_a_loss:
            journal.mark_lost(conn, self.lease.loadbalancer_id)
        self.operation = journal.open_operation(
            conn,
            loadbalancer_id=self.lease.loadbalancer_id,
            what=self._what,
            generation=self.generation,
            epoch=self.lease.epoch,
            host=self._host,
        )
