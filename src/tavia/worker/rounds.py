"""Rounds of convergence of one load balancer: the loop calls :func:`converge` for each that is due."""

from __future__ import annotations

import dataclasses
import logging
import time

from sqlalchemy import Connection

from tavia.metrics import worker as metrics
from tavia.store import leases
from tavia.store.leases import Lease, LeaseLost
from tavia.store.trees import Observed, observe
from tavia.worker.convergence import Controller, Convergence

LOG = logging.getLogger(__name__)

ROUNDS = 5
"""Generations of one load balancer that are applied before another one gets the thread."""
UNRECORDED_AGAIN = 1.0
"""Seconds for which a load balancer is left alone whose failure the database did not take."""


def converge(controller: Controller, last: Lease, owner: str) -> None:
    """Take a lease that was ``last`` seen free and converge its load balancer, again while more is accepted meanwhile.

    A burst of changes is given a moment then, to be applied together. ``owner`` is a nonce. Raises what :func:`begin`
    raises.
    """
    for _ in range(ROUNDS):
        run = begin(controller, last, owner)
        if run is None or not _carried_through(run):
            return
        controller.stopping.wait(controller.coalesce_interval)
        last = dataclasses.replace(run.lease, owner="")


def begin(controller: Controller, last: Lease, owner: str) -> Convergence | None:
    """Take the lease and read its load balancer in one transaction; None where someone was quicker.

    Raises the database's errors, with the lease not taken.
    """
    at = time.monotonic()

    def take(conn: Connection) -> tuple[Lease, Observed] | None:
        lease = leases.take(conn, last, owner, controller.keeper.ttl)
        return (lease, observe(conn, lease.loadbalancer_id)) if lease else None

    taken = controller.database.write(take, in_snapshot=True)
    if taken is None:
        return None
    lease, seen = taken
    metrics.TAKEOVERS.inc(bool(last.owner))
    controller.keeper.hold(lease, at)
    return Convergence(controller, lease, seen, after_a_loss=bool(last.owner))


def _carried_through(run: Convergence) -> bool:
    """Converge once and give the lease back; whether more was accepted meanwhile. Raises nothing."""
    loadbalancer_id = run.lease.loadbalancer_id
    try:
        return run.run()
    except LeaseLost as lost:
        LOG.warning("%s", lost)
        run.outcome = "lost"
        metrics.LOST.inc()
    except Exception:
        LOG.exception("load balancer %s: the convergence could not even record its failure", loadbalancer_id)
        run.controller.stopping.wait(UNRECORDED_AGAIN)
        _release(run.controller, run.lease)
    finally:
        metrics.CONVERGENCES.labels(run.what, run.outcome).inc()
        run.controller.keeper.drop(run.lease)
    return False


def _release(controller: Controller, lease: Lease) -> None:
    try:
        controller.database.write(lambda conn: leases.release(conn, lease))
    except Exception:
        LOG.exception("load balancer %s: its lease runs out by itself", lease.loadbalancer_id)
