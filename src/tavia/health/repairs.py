"""Does what verdicts ask for, and says it: on the amphora's ``fault``, in the journal, in the log, once a change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from sqlalchemy import Connection

from tavia.cloud.protocols import Compute
from tavia.diagnosis.evidence import Action, Verdict
from tavia.diagnosis.verdict import HEARTBEATS_LOST
from tavia.metrics import health as metrics
from tavia.model.resources import LoadBalancer
from tavia.model.seams import Fault, SeamError
from tavia.model.statuses import OperatingStatus
from tavia.store import intents, journal, liveness
from tavia.store.database import Database
from tavia.store.liveness import Troubled

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """A verdict to be carried out on an amphora; ``survivors`` of its load balancer do their work meanwhile."""

    amphora: Troubled
    verdict: Verdict
    survivors: int


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
        """Returns what was done. ``still_in_trouble`` is asked right before something is. Raises database errors."""
        news = [o for o in orders if not o.amphora.fault or o.amphora.fault["code"] != o.verdict.code]
        if news or recovered:
            self._database.write(lambda conn: self._say(conn, news, recovered))
            for found in (order.verdict for order in news):
                metrics.VERDICTS.labels(found.seam, found.code, found.action).inc()
        active = [o for o in orders if o.verdict.action in (Action.REPLACE, Action.START, Action.REPAIR)]
        if not active:
            return []
        in_trouble = still_in_trouble()
        active = [o for o in active if o.amphora.id in in_trouble]
        done = list(self._replaced([o for o in active if o.verdict.action is Action.REPLACE]))
        for order in active:
            if order.verdict.action is Action.START:
                self._start(order)
                done.append(order)
            elif order.verdict.action is Action.REPAIR:
                self._database.write(partial(liveness.push_again, amphora_id=order.amphora.id))
                done.append(order)
        self._wake()
        return done

    def _say(self, conn: Connection, news: Sequence[Order], recovered: Sequence[Troubled]) -> None:
        for amphora in recovered:
            liveness.set_fault(conn, amphora.id, None)
        for order in news:
            found = order.verdict
            since = datetime.now(UTC).replace(microsecond=0, tzinfo=None).isoformat()
            fault = Fault(code=found.code, seam=found.seam, message=found.sentence, since=since)
            liveness.set_fault(conn, order.amphora.id, fault)
            if found is HEARTBEATS_LOST:
                liveness.push_again(conn, order.amphora.id)  # with it come the controllers' addresses and its key
            if found.action is not Action.REPLACE:
                self._journal(conn, f"amphora-{found.action}", [order])

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

        for loadbalancer_id, group in groupby(sorted(orders, key=its_loadbalancer), its_loadbalancer):
            its_orders = list(group)
            try:
                self._database.write(partial(self._replace, loadbalancer_id=loadbalancer_id, orders=its_orders))
            except (_AlreadyMarked, intents.NoSuchLoadBalancer, intents.BeingDeleted):
                continue
            metrics.REPLACEMENTS.inc(len(its_orders))
            yield from its_orders

    def _replace(self, conn: Connection, loadbalancer_id: str, orders: Sequence[Order]) -> None:
        generation = intents.begin_change(conn, loadbalancer_id)
        if not intents.replace_amphorae(conn, loadbalancer_id, generation, [o.amphora.id for o in orders]):
            raise _AlreadyMarked
        if not any(order.survivors for order in orders):
            dead = {loadbalancer_id: OperatingStatus.ERROR}
            liveness.set_operating_statuses(conn, LoadBalancer, dead)
        self._journal(conn, liveness.AUTOMATIC_FAILOVER, orders)

    def _start(self, order: Order) -> None:
        try:
            self._compute.power_on(order.amphora.compute_id or "")
        except SeamError as error:
            LOG.warning("The server of amphora %s could not be started: %s", order.amphora.id, error)
