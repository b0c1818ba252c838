"""Servers and ports of ours that no row names: reported at once, removed after a grace time.

The other way round, an amphora whose server is gone, is the health manager's: it is silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from tavia.cloud.protocols import Cloud
from tavia.metrics import housekeeping as metrics
from tavia.model.seams import Seam, SeamError
from tavia.store import journal, purge
from tavia.store.database import Database
from tavia.store.purge import Owners

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A server or port (``kind``) of ours, and whom its tags name: an amphora or a load balancer that is no more."""

    kind: str
    id: str
    tags: frozenset[str]

    def owner(self, key: str) -> str | None:
        """The value of the tag ``key=value``."""
        return next((tag.partition("=")[2] for tag in self.tags if tag.startswith(f"{key}=")), None)


class Orphans:
    """``grace`` is seconds; ``host`` our name in the journal."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        grace: float,
        host: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._grace = grace
        self._host = host
        self._clock = clock
        self._tags = frozenset({f"tavia-deployment={database.deployment_id()}"})
        self._since: dict[Orphan, float] = {}

    def sweep(self) -> None:
        """Report new orphans, remove those known for the grace time. Raises SeamError and the database's errors.

        Nothing is removed while the database is younger than the grace time: it may be another one, made anew.
        """
        listed = list(self._listed())
        with self._database.read() as conn:
            owners = purge.owners(conn)
        orphans = [resource for resource in listed if not _has_owner(resource, owners)]
        self._report([o for o in orphans if o not in self._since], owners)
        for kind in ("server", "port"):
            metrics.ORPHANS.labels(kind).set(sum(orphan.kind == kind for orphan in orphans))
        now = self._clock()
        self._since = {orphan: self._since.get(orphan, now) for orphan in orphans}
        ripe = [orphan for orphan, since in self._since.items() if now - since >= self._grace]
        if ripe and self._database.age() >= self._grace:
            for orphan in ripe:
                self._remove(orphan)

    def _listed(self) -> Iterator[Orphan]:
        """Servers before ports: a port in use cannot be removed."""
        for server in self._cloud.compute.servers(self._tags):
            yield Orphan("server", server.id, server.tags)
        for port in self._cloud.networking.ports(self._tags):
            yield Orphan("port", port.id, port.tags)

    def _report(self, orphans: list[Orphan], owners: Owners) -> None:
        for orphan in orphans:
            amphora_id, loadbalancer_id = orphan.owner("tavia-amphora"), orphan.owner("tavia-loadbalancer")
            message = (
                f"{orphan.kind} {orphan.id} belongs to no amphora or load balancer of the database (its tags name "
                f"{amphora_id or loadbalancer_id}); it is removed in {self._grace:.0f} s unless that changes"
            )
            failure = SeamError(Seam.BOOT, f"orphan-{orphan.kind}", message)
            subject = loadbalancer_id or owners.loadbalancer_of.get(amphora_id or "") or ""
            LOG.warning("%s", failure)

            def record(conn: Connection, subject: str = subject, failure: SeamError = failure) -> None:
                journal.event(conn, loadbalancer_id=subject, what="orphan-found", failure=failure, host=self._host)

            self._database.write(record)

    def _remove(self, orphan: Orphan) -> None:
        compute, networking = self._cloud.compute, self._cloud.networking
        try:
            (compute.delete if orphan.kind == "server" else networking.delete_port)(orphan.id)
        except SeamError as error:
            LOG.error("Orphan %s %s could not be removed, it is tried again: %s", orphan.kind, orphan.id, error)
        else:
            LOG.warning("Orphan removed: %s %s", orphan.kind, orphan.id)


def _has_owner(resource: Orphan, owners: Owners) -> bool:
    """One without such a tag is not ours to judge."""
    amphora_id, loadbalancer_id = resource.owner("tavia-amphora"), resource.owner("tavia-loadbalancer")
    if amphora_id:
        return amphora_id in owners.amphorae
    return loadbalancer_id is None or loadbalancer_id in owners.loadbalancers
