"""The one loop: look for load balancers that are due, take their leases, converge each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from tavia.bus import Wakeups
from tavia.metrics import worker as metrics
from tavia.store.due import Due, due
from tavia.worker.convergence import Controller
from tavia.worker.rounds import converge

LOG = logging.getLogger(__name__)


class Loop:
    """Runs until ``controller.stopping`` is set; ``providers`` are the names of the load balancers that are ours.

    Those that are known to be in trouble get half the threads at most: each may take a whole timeout.
    """

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
        self._free_for_trouble = threading.Semaphore(max(1, max_workers // 2))
        self._trouble_waits = False
        self._under_way: set[str] = set()
        metrics.THREADS.set(max_workers)
        metrics.BUSY.set_function(lambda: len(self._under_way))

    def stop(self) -> None:
        """See tavia.process.lifetime.Service."""
        self._controller.stopping.set()
        self._wakeups.interrupt()

    def unfinished(self) -> list[str]:
        """See tavia.process.lifetime.Service."""
        return [f"load balancer {loadbalancer_id}" for loadbalancer_id in sorted(self._under_way)]

    def run(self) -> None:
        """Until asked to stop; load balancers under way are handed over first, after the steps that have begun."""
        while not self._controller.stopping.is_set():
            more = False
            try:
                more = self.take_due()
            except Exception:
                LOG.exception("cannot look for due load balancers; looking again in %s s", self._poll_interval)
            if more:
                self._wait_for_a_thread()
            else:
                self._wakeups.wait(self._poll_interval)
        self._threads.shutdown(wait=True)
        self._wakeups.close()

    def take_due(self) -> bool:
        """Begin to converge what is due, in random order. Whether there were too few threads for all.

        Trouble that waits for the end of other trouble does not count.
        """
        with self._controller.database.query() as conn:
            found = due(conn, self._providers, limit=1000)
        self._trouble_waits = False
        for free in found:
            if free.lease.loadbalancer_id in self._under_way:
                continue
            if free.is_troubled and not self._free_for_trouble.acquire(blocking=False):
                self._trouble_waits = True
                continue
            if not self._free.acquire(blocking=False):
                if free.is_troubled:
                    self._free_for_trouble.release()
                return True
            self._under_way.add(free.lease.loadbalancer_id)
            self._threads.submit(self._converge, free)
        return False

    def _wait_for_a_thread(self) -> None:
        if self._free.acquire(timeout=self._poll_interval):
            self._free.release()

    def _converge(self, free: Due) -> None:
        loadbalancer_id = free.lease.loadbalancer_id
        try:
            converge(self._controller, free.lease, uuid.uuid4().hex)
        except Exception:
            LOG.exception("load balancer %s: cannot take its lease and read it", loadbalancer_id)
            self._controller.stopping.wait(self._poll_interval)
        finally:
            self._under_way.discard(loadbalancer_id)
            self._free.release()
            if free.is_troubled:
                self._free_for_trouble.release()
                if self._trouble_waits:
                    self._wakeups.interrupt()
