"""How the API accepts a change: one transaction that begins with the load balancer's next generation.

Handlers give the rest of the transaction as a function; whatever it raises leaves no trace. Workers are woken after
it, and never before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TypeVar

from oslo_config import cfg
from sqlalchemy import Connection

from tavia.api.errors import ApiError, immutable, not_found
from tavia.bus import waker
from tavia.model.resources import LoadBalancer, Pool
from tavia.model.statuses import ProvisioningStatus
from tavia.store import intents, once
from tavia.store.database import Database

T = TypeVar("T")
Work = Callable[[Connection, int], T]
"""The rest of an accepting transaction, given its generation."""

_STEADY = frozenset({ProvisioningStatus.ACTIVE})
_ENDED = frozenset({ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR})


class Unchanged(Exception):
    """Raised by a transaction's work that finds nothing to do: all is rolled back, the generation too."""


class Changes:
    """Accepts changes into the database."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        self._database = database
        self._immutable_while_pending: bool = conf.api_settings.immutable_while_pending
        self._wake = waker(conf)

    def create(self, work: Callable[[Connection], T]) -> T:
        """Accept a new load balancer."""

        def transaction(conn: Connection) -> T:
            once.refuse_second_run(conn)  # before any check that would find what an earlier run has made
            return work(conn)

        return self._accept(transaction)

    def change_below(self, loadbalancer_id: str, work: Work[T]) -> T:
        """Accept a change of a child of a load balancer."""

        def transaction(conn: Connection) -> T:
            try:
                generation = intents.begin_change(conn, loadbalancer_id, self._only(_STEADY))
            except (intents.BeingDeleted, intents.Immutable):
                raise immutable(LoadBalancer.names.title, loadbalancer_id) from None
            except intents.NoSuchLoadBalancer:
                raise not_found(LoadBalancer.names.title, loadbalancer_id) from None
            return work(conn, generation)

        return self._accept(transaction)

    def change_below_if_any(self, loadbalancer_id: str, work: Work[None]) -> None:
        """As :meth:`change_below`, where ``work`` may find that there is nothing to do and raise Unchanged."""
        with contextlib.suppress(Unchanged):
            self.change_below(loadbalancer_id, work)

    def change(self, loadbalancer_id: str, work: Work[T]) -> T:
        """Accept a change of a load balancer itself."""
        return self._accept(lambda conn: work(conn, self._begin(conn, loadbalancer_id, intents.begin_change, _STEADY)))

    def command(self, loadbalancer_id: str, work: Work[T]) -> T:
        """Accept what an operator orders (a failover, a configuration again), which Octavia allows in ERROR too."""
        return self._accept(lambda conn: work(conn, self._begin(conn, loadbalancer_id, intents.begin_change, _ENDED)))

    def delete(self, loadbalancer_id: str, work: Work[T]) -> T:
        """Accept the deletion of a load balancer, again too while it is under way."""
        return self._accept(lambda conn: work(conn, self._begin(conn, loadbalancer_id, intents.begin_delete, _ENDED)))

    def look_again(self, loadbalancer_id: str) -> None:
        """Have a worker do now what is left to do."""
        self._accept(lambda conn: intents.look_again(conn, loadbalancer_id))

    def _begin(
        self,
        conn: Connection,
        loadbalancer_id: str,
        begin: Callable[[Connection, str, Collection[ProvisioningStatus] | None], int],
        accepting: Collection[ProvisioningStatus],
    ) -> int:
        try:
            return begin(conn, loadbalancer_id, self._only(accepting))
        except intents.NoSuchLoadBalancer:
            raise not_found(LoadBalancer.names.title, loadbalancer_id) from None
        except intents.BeingDeleted:
            status = ProvisioningStatus.PENDING_DELETE
        except intents.Immutable as error:
            status = error.status
        raise ApiError(409, f"Invalid state {status} of loadbalancer resource {loadbalancer_id}")

    def _only(self, accepting: Collection[ProvisioningStatus]) -> Collection[ProvisioningStatus] | None:
        return accepting if self._immutable_while_pending else None

    def _accept(self, transaction: Callable[[Connection], T]) -> T:
        result = self._database.write(transaction)
        self._wake()
        return result


def touch_pools(conn: Connection, pool_ids: Collection[str], generation: int) -> None:
    """Something below these pools changes: they and the listeners that use them are pending too."""
    intents.change(conn, Pool, pool_ids, generation)
    intents.touch_listeners_of(conn, pool_ids, generation)
