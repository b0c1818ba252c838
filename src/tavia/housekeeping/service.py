"""``tavia-housekeeping``: the tasks of the background, one after another in rounds. Any number may run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType

from oslo_config import cfg
from oslo_db.exception import DBError
from sqlalchemy.exc import SQLAlchemyError

from tavia import cloud as clouds
from tavia import config
from tavia.bus.wake import waker
from tavia.housekeeping.orphans import Orphans
from tavia.housekeeping.resync import Resync
from tavia.model.seams import SeamError
from tavia.store import purge
from tavia.store.database import Database
from tavia.store.migrate import open_database

LOG = logging.getLogger(__name__)


@dataclass
class Task:
    """Something done every ``interval`` seconds; ``due`` by ``time.monotonic``."""

    name: str
    interval: float
    action: Callable[[], None]
    due: float = 0.0


def main(argv: Sequence[str] | None = None) -> None:
    """The process: runs until SIGTERM."""
    conf = config.load(argv, "tavia-housekeeping")
    config.setup_logging(conf)
    try:
        tasks = build(conf)
    except SeamError as error:
        raise SystemExit(f"tavia-housekeeping: {error}") from error
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping.is_set():
        run_due(tasks)
        stopping.wait(max(0.0, min(task.due for task in tasks) - time.monotonic()))


def run_due(tasks: Sequence[Task]) -> None:
    """Run what is due. One that fails says so and is tried again in its next round; the others go on."""
    for task in tasks:
        if task.due > time.monotonic():
            continue
        try:
            task.action()
        except (SeamError, DBError, SQLAlchemyError) as error:
            LOG.error("%s failed, it is tried again in %s s: %s", task.name, task.interval, error)
        task.due = time.monotonic() + task.interval


def build(conf: cfg.ConfigOpts) -> list[Task]:
    """The tasks as configured. Raises SeamError where the database or the cloud cannot be used."""
    options = conf.house_keeping
    database = open_database(conf.database.connection)
    orphans = Orphans(database, clouds.connect(conf), conf.tavia.orphan_grace, conf.host)
    resync = Resync(database, conf.health_manager.heartbeat_timeout, waker(conf.tavia.state_dir))
    cleaning = partial(clean, database, options.load_balancer_expiry_age, options.amphora_expiry_age)
    certificates = partial(report_certificates, database, options.cert_expiry_buffer)
    return [
        Task("Purging old rows", options.cleanup_interval, cleaning),
        Task("Looking for orphans", options.cleanup_interval, orphans.look),
        Task("Looking for amphorae that lag", options.cleanup_interval, resync.look),
        Task("Looking for certificates near expiry", options.cert_interval, certificates),
    ]


def clean(database: Database, loadbalancer_age: float, amphora_age: float) -> None:
    """Purge what is older than these ages, in seconds; the journal goes by the load balancers'.

    Raises the database's errors.
    """
    loadbalancers = database.write(partial(purge.purge_load_balancers, expiry_age=loadbalancer_age))
    amphorae = database.write(partial(purge.purge_amphorae, expiry_age=amphora_age))
    database.write(partial(purge.purge_journal, expiry_age=loadbalancer_age))
    database.write(purge.tidy_statistics)
    if loadbalancers or amphorae:
        LOG.info("Rows purged: %s load balancers, %s amphorae", loadbalancers, amphorae)


def report_certificates(database: Database, buffer: float) -> None:
    """Name the amphorae whose certificate expires within ``buffer`` seconds. Raises the database's errors."""
    with database.read() as conn:
        near = purge.certificates_near_expiry(conn, buffer)
    if near:
        LOG.warning("Certificates of these amphorae expire soon, fail them over: %s", ", ".join(near))
