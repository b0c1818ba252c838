"""``tavia-housekeeping``: the tasks of the background, one after another in rounds. Any number may run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial

from oslo_config import cfg
from oslo_db.exception import DBError
from sqlalchemy.exc import SQLAlchemyError

from tavia import cloud as clouds
from tavia.bus import waker
from tavia.housekeeping.orphans import Orphans
from tavia.housekeeping.resync import Resync
from tavia.metrics import housekeeping as metrics
from tavia.metrics import serving
from tavia.model.resources import OUR_PROVIDERS
from tavia.model.seams import SeamError
from tavia.process.lifetime import serve
from tavia.store import certificates, purge, services, totals
from tavia.store.database import Database
from tavia.store.opening import open_database

LOG = logging.getLogger(__name__)


DEAD_AFTER = 24 * 3600.0
"""Seconds for which a service that died is listed as down: long enough to be looked at, and asked why."""


COUNT_INTERVAL = 15.0
"""Seconds between two counts of the load balancers, as often as Prometheus asks by default."""


@dataclass
class Task:
    """Something done every ``interval`` seconds; ``due`` by ``time.monotonic``."""

    name: str
    interval: float
    action: Callable[[], None]
    due: float = 0.0
    under_way: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """The process: runs until SIGTERM."""
    serve("tavia-housekeeping", argv, lambda conf: Rounds(build(conf)))


class Rounds:
    """The tasks, each when it is due, one after another; see tavia.process.lifetime.Service."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop; the task under way comes to its end."""
        while not self._stopping.is_set():
            run_due(self._tasks, self._stopping.is_set)
            self._stopping.wait(max(0.0, min(task.due for task in self._tasks) - time.monotonic()))

    def stop(self) -> None:
        """Begin no other task."""
        self._stopping.set()

    def unfinished(self) -> list[str]:
        """The task under way."""
        return [task.name for task in self._tasks if task.under_way]


def run_due(tasks: Sequence[Task], stopped: Callable[[], bool] = lambda: False) -> None:
    """Run what is due. One that fails says so and is tried again in its next round; the others go on."""
    for task in tasks:
        if stopped() or task.due > time.monotonic():
            continue
        task.under_way = True
        try:
            task.action()
            metrics.RUNS.labels(task.name, "done").inc()
            metrics.LAST_SUCCESS.labels(task.name).set_to_current_time()
        except (SeamError, DBError, SQLAlchemyError) as error:
            metrics.RUNS.labels(task.name, "failed").inc()
            LOG.error("%s failed, it is tried again in %s s: %s", task.name, task.interval, error)
        finally:
            task.under_way = False
        task.due = time.monotonic() + task.interval


RENEWED_AT_ONCE = 100
"""Load balancers in a round. By default a round is an hour and there are two weeks: 33,600."""


def build(conf: cfg.ConfigOpts) -> list[Task]:
    """The tasks as configured. Raises SeamError where the database or the cloud cannot be used."""
    options = conf.house_keeping
    database = open_database(conf.database.connection, conf.database)
    kept = min(options.load_balancer_expiry_age, options.amphora_expiry_age)
    orphans = Orphans(database, clouds.connect(conf), conf.tavia.orphan_grace, kept, conf.host)
    resync = Resync(database, conf.health_manager.heartbeat_timeout, waker(conf))
    dead = partial(purge_dead_services, database, DEAD_AFTER)
    cleaning = partial(clean, database, options.load_balancer_expiry_age, options.amphora_expiry_age)
    renewing = partial(renew_certificates, database, options.cert_expiry_buffer, waker(conf))
    counting = [Task("Counting load balancers", COUNT_INTERVAL, partial(count, database))]
    return [
        *(counting if serving.port_of(conf) else []),
        Task("Purging old rows", options.cleanup_interval, cleaning),
        Task("Purging dead services", options.cleanup_interval, dead),
        Task("Looking for orphans", options.cleanup_interval, orphans.sweep),
        Task("Looking for amphorae that lag", options.cleanup_interval, resync.sweep),
        Task("Renewing certificates near expiry", options.cert_interval, renewing),
    ]


def clean(database: Database, loadbalancer_age: float, amphora_age: float) -> None:
    """Purge what is older than these ages, in seconds; the journal goes by the load balancers'.

    Raises the database's errors.
    """
    loadbalancers = database.write(partial(purge.purge_load_balancers, expiry_age=loadbalancer_age))
    amphorae = database.write(partial(purge.purge_amphorae, expiry_age=amphora_age))
    database.write(partial(purge.purge_journal, expiry_age=loadbalancer_age))
    database.write(purge.tidy_statistics)
    metrics.PURGED.labels("load_balancer").inc(loadbalancers)
    metrics.PURGED.labels("amphora").inc(amphorae)
    if loadbalancers or amphorae:
        LOG.info("Rows purged: %s load balancers, %s amphorae", loadbalancers, amphorae)


def count(database: Database) -> None:
    """Show Prometheus what only the database knows. Raises the database's errors."""
    with database.read() as conn:
        found = totals.totals(conn, OUR_PROVIDERS)
    for status, number in found.by_status.items():
        metrics.LOADBALANCERS.labels(status).set(number)
    metrics.DUE.set(found.due)
    metrics.DUE_AGE.set(found.oldest_due)
    metrics.PENDING_AGE.set(found.oldest_pending)


def purge_dead_services(database: Database, silent_for: float) -> None:
    """Remove the rows of services that died so many seconds ago. Raises the database's errors."""
    purged = database.write(partial(services.purge, silent_for=silent_for))
    if purged:
        LOG.info("Services that died long ago, no longer listed: %s", purged)


def renew_certificates(database: Database, buffer: float, wake: Callable[[], None]) -> None:
    """Hand load balancers with certificates that expire within ``buffer`` seconds to the workers, some at a time.

    They give each agent another one, and try until it is done. Raises the database's errors.
    """
    made_due = database.write(lambda conn: certificates.make_due(conn, buffer, RENEWED_AT_ONCE))
    if made_due:
        wake()
    with database.read() as conn:
        near = certificates.near_expiry(conn, buffer)
        first = certificates.first_expiry(conn)
    metrics.CERTIFICATES.set(len(near))
    metrics.FIRST_EXPIRY.set(first.replace(tzinfo=UTC).timestamp() if first else 0.0)
    if near:
        LOG.info("Certificates of these amphorae expire soon and are renewed: %s", ", ".join(near))
