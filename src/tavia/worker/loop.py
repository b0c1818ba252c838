"""The one loop: look for load balancers that are due, take their leases, converge each in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from tavia.bus.wake import Wakeups
from tavia.store import convergence as store
from tavia.store import leases
from tavia.worker.convergence import Controller, converge

LOG = logging.getLogger(__name__)


class Loop:
    """Runs until ``controller.stopping`` is set; ``providers`` are the names of the load balancers that are ours."""

    def __init__(
        self,
        controller: Controller,
        wakeups: Wakeups,
        *,
        providers: Collection[str],
        poll_interval: float,
        max_workers: int,
    ) -> None:
        self._controller = controller
        self._wakeups = wakeups
        self._providers = providers
        self._poll_interval = poll_interval
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="convergence")
        self._free = threading.Semaphore(max_workers)
        self._owner = uuid.uuid4().hex

    def run(self) -> None:
        """Until asked to stop; load balancers under way are handed over first."""
        while not self._controller.stopping.is_set():
            try:
                self.take_due()
            except Exception:
                LOG.exception("cannot look for due load balancers; looking again in %s s", self._poll_interval)
            self._wakeups.wait(self._poll_interval)
        self._threads.shutdown(wait=True)

    def take_due(self) -> None:
        """Begin to converge what is due, as far as there are threads, in random order."""
        with self._controller.database.read() as conn:
            due = store.due(conn, self._providers, limit=1000)
        random.shuffle(due)
        for loadbalancer_id in due:
            if not self._free.acquire(blocking=False):
                return
            self._threads.submit(self._converge, loadbalancer_id)

    def _converge(self, loadbalancer_id: str) -> None:
        controller = self._controller
        try:
            at = time.monotonic()
            lease = controller.database.write(
                lambda conn: leases.take(conn, loadbalancer_id, self._owner, controller.keeper.ttl)
            )
            if lease:
                controller.keeper.hold(lease, at)
                converge(controller, lease)
        except Exception:
            LOG.exception("load balancer %s: cannot take its lease", loadbalancer_id)
        finally:
            self._free.release()
