"""Does what verdicts ask for, and says it: on the amphora's ``fault``, in the journal, in the log, once a change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TypeVar

from sqlalchemy import Connection

from tavia.cloud.protocols import Compute
from tavia.diagnosis.evidence import Action, Verdict
from tavia.health.isolation import isolated
from tavia.health.unforeseen import unforeseen
from tavia.metrics import health as metrics
from tavia.model.resources import LoadBalancer
from tavia.model.seams import Fault, SeamError
from tavia.model.statuses import OperatingStatus
from tavia.store import intents, journal, liveness
from tavia.store.database import Database
from tavia.store.liveness import Troubled

LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """A verdict to be carried out on an amphora; ``survivors`` of its load balancer do their work meanwhile.

    ``again`` is what is repeated while the verdict asks for nothing that could be done now.
    """

    amphora: Troubled
    verdict: Verdict
    survivors: int
    again: Action | None = None

    @property
    def remedy(self) -> Action:
        """What is done."""
        return self.again or self.verdict.action


class _AlreadyMarked(Exception):
    """Another health manager was first: nothing is to be written."""


class Repairs:
    """``wake`` tells the workers that something is due; ``host`` is our name in the journal."""

    def __init__(self, database: Database, compute: Compute, wake: Callable[[], None], host: str) -> None:
        self._database = database
        self._compute = compute
        self._wake = wake
        self._host = host

    def carry_out(
        self,
        orders: Sequence[Order],
        *,
        recovered: Sequence[Troubled],
        still_in_trouble: Callable[[], set[str]],
    ) -> list[Order]:
        """Returns what was done. ``still_in_trouble`` is asked right before something is. Raises database errors.

        Who is in the way of what is written is left out, see :mod:`tavia.health.isolation`.
        """
        news = [o for o in orders if not o.amphora.fault or o.amphora.fault["code"] != o.verdict.code]
        self._each(news, self._say)
        self._each(recovered, lambda conn, amphora: liveness.set_fault(conn, amphora.id, None))
        for found in (order.verdict for order in news):
            metrics.VERDICTS.labels(found.seam, found.code, found.action).inc()
        active = [o for o in orders if o.remedy in (Action.REPLACE, Action.START, Action.REPAIR)]
        if not active:
            return []
        in_trouble = still_in_trouble()
        active = [o for o in active if o.amphora.id in in_trouble]
        done = list(self._replaced([o for o in active if o.remedy is Action.REPLACE]))
        done += self._started([o for o in active if o.remedy is Action.START])
        done += self._pushed([o for o in active if o.remedy is Action.REPAIR])
        self._wake()
        return done

    def _each(self, items: Sequence[T], do: Callable[[Connection, T], None]) -> list[T]:
        """In one transaction, but for those who spoil it. Returns those."""

        def write(some: Sequence[T]) -> None:
            def all_of_them(conn: Connection) -> None:
                for item in some:
                    do(conn, item)

            self._database.write(all_of_them)

        return isolated(self._database, items, write, "repair")

    def _say(self, conn: Connection, order: Order) -> None:
        found = order.verdict
        since = datetime.now(UTC).replace(microsecond=0, tzinfo=None).isoformat()
        fault = Fault(code=found.code, seam=found.seam, message=found.sentence, since=since)
        liveness.set_fault(conn, order.amphora.id, fault)
        if found.action is not Action.REPLACE:
            self._journal(conn, f"amphora-{found.action}", [order])

    def _pushed(self, orders: Sequence[Order]) -> list[Order]:
        """Those whose bundle the worker pushes again; with it go the controllers' addresses and the amphora's key."""
        failed = self._each(orders, lambda conn, order: liveness.push_again(conn, order.amphora.id))
        done = [order for order in orders if order not in failed]
        for order in done:
            LOG.info("Amphora %s gets its bundle and configuration again: %s", order.amphora.id, order.verdict.code)
        return done

    def _journal(self, conn: Connection, what: str, orders: Sequence[Order]) -> None:
        loadbalancer_id, first = orders[0].amphora.loadbalancer_id, orders[0].verdict
        reason = "; ".join(f"amphora {order.amphora.id}: {order.verdict.sentence}" for order in orders)
        failure = SeamError(first.seam, first.code, reason)
        journal.event(conn, loadbalancer_id=loadbalancer_id, what=what, failure=failure, host=self._host)
        LOG.warning("%s of load balancer %s: %s", what, loadbalancer_id, failure)

    def _replaced(self, orders: Sequence[Order]) -> Iterator[Order]:
        """Those whose replacement we asked for: one transaction for each load balancer."""

        def its_loadbalancer(order: Order) -> str:
            return order.amphora.loadbalancer_id

        for _, group in groupby(sorted(orders, key=its_loadbalancer), its_loadbalancer):
            its_orders, marked = list(group), []

            def replace(groups: Sequence[list[Order]]) -> None:
                for each in groups:
                    with suppress(_AlreadyMarked, intents.NoSuchLoadBalancer, intents.BeingDeleted):
                        self._database.write(partial(self._replace, orders=each))
                        marked.extend(each)  # noqa: B023 - it is called at once

            isolated(self._database, [its_orders], replace, "repair")
            metrics.REPLACEMENTS.inc(len(marked))
            yield from marked

    def _replace(self, conn: Connection, orders: Sequence[Order]) -> None:
        loadbalancer_id = orders[0].amphora.loadbalancer_id
        generation = intents.begin_change(conn, loadbalancer_id)
        if not intents.replace_amphorae(conn, loadbalancer_id, generation, [o.amphora.id for o in orders]):
            raise _AlreadyMarked
        if not any(order.survivors for order in orders):
            dead = {loadbalancer_id: OperatingStatus.ERROR}
            liveness.set_operating_statuses(conn, LoadBalancer, dead)
        self._journal(conn, liveness.AUTOMATIC_FAILOVER, orders)

    def _started(self, orders: Sequence[Order]) -> list[Order]:
        for order in orders:
            try:
                self._compute.power_on(order.amphora.compute_id or "")
            except SeamError as error:
                LOG.warning("The server of amphora %s could not be started: %s", order.amphora.id, error)
            except Exception as error:
                unforeseen("repair", error, f"amphora {order.amphora.id}")
        return list(orders)
