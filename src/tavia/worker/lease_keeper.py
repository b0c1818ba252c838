"""Renews the leases of one worker process, and tells whether there is time left under one to begin an effect.

A lease is renewed every sixth of its time to live. Renewal stops where nothing was begun, ended or written for longer
than a step's deadline, so a hung worker loses its load balancer, wherever it hangs; no effect begins in the last fifth,
so none outlives the lease it began under.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from tavia.metrics import worker as metrics
from tavia.model.seams import SeamError
from tavia.store import leases
from tavia.store.database import Database
from tavia.store.leases import Lease, LeaseLost

LOG = logging.getLogger(__name__)


def longest_step(step_deadline: float) -> float:
    """Seconds that the effects of a step may take together: what became of them can still be written after that."""
    return 0.9 * step_deadline


@dataclass(slots=True)
class _Held:
    renewed: float
    progress: float = field(default_factory=time.monotonic)


class LeaseKeeper:
    """Leases held by this process; times are the process's monotonic clock, always taken before the statement.

    ``longest_step``: see :func:`longest_step`.
    """

    def __init__(self, database: Database, ttl: float, step_deadline: float) -> None:
        self.ttl = ttl
        self.longest_step = longest_step(step_deadline)
        self._database = database
        self._step_deadline = step_deadline
        self._held: dict[Lease, _Held] = {}
        metrics.HELD.set_function(lambda: len(self._held))
        self._stopped = threading.Event()
        threading.Thread(target=self._renew_until_stopped, name="lease-keeper", daemon=True).start()

    def hold(self, lease: Lease, taken: float) -> None:
        """Keep a lease that was asked for at ``taken``."""
        self._held[lease] = _Held(renewed=taken)

    def drop(self, lease: Lease) -> None:
        """Keep it no more."""
        self._held.pop(lease, None)

    def begin_step(self, lease: Lease) -> None:
        """Call before an effect. Raises LeaseLost where too little of the lease is left for one."""
        held = self._held.get(lease)
        if held is None or time.monotonic() - held.renewed > 0.8 * self.ttl:
            raise LeaseLost(lease.loadbalancer_id)
        held.progress = time.monotonic()

    def end_step(self, lease: Lease) -> None:
        """Call after an effect."""
        held = self._held.get(lease)
        if held:
            held.progress = time.monotonic()

    def renewed(self, lease: Lease, at: float) -> None:
        """A fenced write at ``at`` renewed it too."""
        held = self._held.get(lease)
        if held:
            held.renewed, held.progress = at, time.monotonic()

    def stop(self) -> None:
        """Renew nothing any more."""
        self._stopped.set()

    def _renew_until_stopped(self) -> None:
        while not self._stopped.wait(self.ttl / 6):
            for lease, held in list(self._held.items()):
                if time.monotonic() - held.progress < self._step_deadline:
                    self._renew(lease, held)

    def _renew(self, lease: Lease, held: _Held) -> None:
        at = time.monotonic()
        try:
            self._database.write(lambda conn: leases.renew(conn, lease, self.ttl))
        except LeaseLost:
            self.drop(lease)
        except SeamError as error:
            LOG.warning("cannot renew the lease of load balancer %s: %s", lease.loadbalancer_id, error)
        except Exception:
            LOG.exception("cannot renew the lease of load balancer %s", lease.loadbalancer_id)
        else:
            held.renewed = at
