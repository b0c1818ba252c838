"""A process's row in the table ``service``: made at the start, renewed while it runs, removed at a clean end."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version

from oslo_config import cfg
from oslo_db.exception import DBDuplicateEntry, DBError
from sqlalchemy.exc import SQLAlchemyError

from tavia.config import fingerprint
from tavia.model.seams import SeamError
from tavia.store import services
from tavia.store.database import Database

LOG = logging.getLogger(__name__)

WITHDRAW_SECONDS = 5.0
"""For how long a process that ends waits for its row to go."""

DATABASE_ERRORS = (SeamError, DBError, SQLAlchemyError)


@dataclass(frozen=True, kw_only=True)
class Presence:
    """One service of one process. Safe to make before a fork: all children may renew the one row."""

    conf: cfg.ConfigOpts
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    pid: int = field(default_factory=os.getpid)
    began: float = field(default_factory=time.monotonic)
    _over: threading.Event = field(default_factory=threading.Event)
    _reporting: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, database: Database) -> None:
        """Renew the row from now on, in a thread that ends with the process."""
        threading.Thread(target=self._keep, args=(database,), name="presence", daemon=True).start()

    def _keep(self, database: Database) -> None:
        salt: str | None = None
        is_away = False
        while not self._over.is_set():
            try:
                salt = salt or database.deployment_id()
                self.report(database, salt)
            except DATABASE_ERRORS as error:
                if not is_away:
                    LOG.warning("This service cannot say that it is there, others may think it is down: %s", error)
                is_away = True
            else:
                is_away = False
            self._over.wait(self.conf.tavia.service_report_interval)

    def report(self, database: Database, salt: str) -> None:
        """Renew the row once, unless it was withdrawn. Raises the database's errors."""
        hashes = fingerprint.group_hashes(self.conf, salt)
        process = services.Process(
            id=self.id,
            name=self.conf.prog,
            host=self.conf.host,
            pid=self.pid,
            version=version("tavia"),
            config_hash=fingerprint.config_hash(hashes),
            config_group_hashes=fingerprint.used_by(self.conf.prog, hashes),
        )
        uptime = time.monotonic() - self.began
        with self._reporting, suppress(DBDuplicateEntry):  # another child of the API made it at the same moment
            if not self._over.is_set():
                database.write(lambda conn: services.report(conn, process, uptime))

    def withdraw(self, database: Database) -> None:
        """Remove the row; gives up after a moment, it shows the service as down then."""
        removal = threading.Thread(target=self._remove, args=(database,), daemon=True)
        removal.start()
        removal.join(WITHDRAW_SECONDS)
        if removal.is_alive():
            LOG.warning("The database does not answer: this service stays listed, as down")

    def _remove(self, database: Database) -> None:
        self._over.set()
        try:
            with self._reporting:
                database.write(lambda conn: services.withdraw(conn, self.id))
        except DATABASE_ERRORS as error:
            LOG.warning("This service stays listed, as down: %s", error)
