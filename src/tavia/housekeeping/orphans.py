"""What is ours in the cloud and no row names: reported at once, removed after a grace time, unless there is doubt.

The other way round, an amphora whose server is gone, is the health manager's: it is silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from tavia.cloud.protocols import Cloud, Server
from tavia.housekeeping.doubt import doubt
from tavia.metrics import housekeeping as metrics
from tavia.model.seams import Seam, SeamError
from tavia.store import journal, orphan_removal, purge
from tavia.store.database import Database
from tavia.store.purge import Owners
from tavia.worker.ports import server_group_name

LOG = logging.getLogger(__name__)

KINDS = ("server", "port", "security-group", "server-group")
"""In the order in which they can be removed: a port is in use by its server, a group by its ports."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A resource of ours, and whom its tags name: an amphora or a load balancer that is no more.

    ``kind`` is one of :data:`KINDS`; ``id`` is the name of a group.
    """

    kind: str
    id: str
    tags: frozenset[str]

    @property
    def amphora_id(self) -> str | None:
        """Of the amphora that it was made for."""
        return self._owner("tavia-amphora")

    @property
    def loadbalancer_id(self) -> str | None:
        """Of the load balancer that it was made for."""
        return self._owner("tavia-loadbalancer")

    def _owner(self, key: str) -> str | None:
        return next((tag.partition("=")[2] for tag in self.tags if tag.startswith(f"{key}=")), None)


@dataclass(frozen=True, slots=True)
class Found:
    """``servers``: all that carry our ``tags``; ``orphans``: what no row names, in the order of :data:`KINDS`."""

    tags: frozenset[str]
    servers: list[Server]
    orphans: list[Orphan]
    owners: Owners

    @property
    def orphaned_servers(self) -> list[Server]:
        """The servers among the orphans."""
        ids = {orphan.id for orphan in self.orphans if orphan.kind == "server"}
        return [server for server in self.servers if server.id in ids]

    @property
    def never_known(self) -> set[str]:
        """Ids of servers whose amphora has no row, not even as deleted."""
        known = self.owners.loadbalancer_of
        return {each.id for each in self.orphans if each.kind == "server" and each.amphora_id not in known}


def find(database: Database, cloud: Cloud) -> Found:
    """Compare the cloud with the rows. Raises SeamError and the database's errors."""
    tags = frozenset({f"tavia-deployment={database.deployment_id()}"})
    servers = cloud.compute.servers(tags)
    tagged = [
        *(Orphan("server", server.id, server.tags) for server in servers),
        *(Orphan("port", port.id, port.tags) for port in cloud.networking.ports(tags)),
        *(Orphan("security-group", group.name, group.tags) for group in cloud.networking.security_groups(tags)),
    ]
    names = cloud.compute.server_groups()
    with database.read() as conn:
        owners = purge.owners(conn)
    orphans = [resource for resource in tagged if not _has_owner(resource, owners)]
    return Found(tags, servers, [*orphans, *_left_server_groups(names, owners)], owners)


class Orphans:
    """``grace`` is seconds; ``kept`` for how many rows of what was deleted are; ``host`` our name in the journal."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        grace: float,
        kept: float,
        host: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._grace = grace
        self._kept = kept
        self._host = host
        self._clock = clock
        self._since: dict[Orphan, float] = {}

    def sweep(self) -> None:
        """Report new orphans, remove those known for the grace time. Raises SeamError and the database's errors.

        Nothing is removed while the database is younger than the grace time: it may be another one, made anew. Nor
        where there is doubt, until an operator says otherwise.
        """
        found = find(self._database, self._cloud)
        self._report([o for o in found.orphans if o not in self._since], found.owners)
        for kind in KINDS:
            metrics.ORPHANS.labels(kind).set(sum(orphan.kind == kind for orphan in found.orphans))
        now = self._clock()
        self._since = {orphan: self._since.get(orphan, now) for orphan in found.orphans}
        ripe = [orphan for orphan, since in self._since.items() if now - since >= self._grace]
        is_stopped = self._is_stopped(found if ripe else None)
        metrics.REMOVAL_STOPPED.set(is_stopped)
        if ripe and not is_stopped and self._database.age() >= self._grace:
            for orphan in ripe:
                self._remove(orphan)

    def _is_stopped(self, found: Found | None) -> bool:
        """Whether doubt was told before, or there is some now in what was ``found``."""
        with self._database.read() as conn:
            if orphan_removal.stopped(conn) is not None:
                return True
            past = orphan_removal.past(conn) if found else None
        if found is None or past is None:
            return False
        why = doubt(
            len(found.servers), found.orphaned_servers, found.never_known, past, now=time.time(), kept=self._kept
        )
        if why is None:
            return False
        advice = (
            "is it the right database? Nothing is removed until someone types: tavia orphan list, tavia orphan remove"
        )
        failure = SeamError(Seam.CONTROL, "orphans-in-doubt", f"{why}; {advice}")
        LOG.error("%s", failure)
        self._journal(orphan_removal.OF_NO_LOADBALANCER, orphan_removal.STOPPED, failure)
        return True

    def _report(self, orphans: list[Orphan], owners: Owners) -> None:
        for orphan in orphans:
            message = (
                f"{orphan.kind} {orphan.id} belongs to no amphora or load balancer of the database (it was made for "
                f"{orphan.amphora_id or orphan.loadbalancer_id}); it is removed in {self._grace:.0f} s unless that "
                "changes"
            )
            failure = SeamError(Seam.BOOT, f"orphan-{orphan.kind}", message)
            LOG.warning("%s", failure)
            subject = orphan.loadbalancer_id or owners.loadbalancer_of.get(orphan.amphora_id or "") or ""
            self._journal(subject, "orphan-found", failure)

    def _journal(self, subject: str, what: str, failure: SeamError) -> None:
        def record(conn: Connection) -> None:
            journal.event(conn, loadbalancer_id=subject, what=what, failure=failure, host=self._host)

        self._database.write(record)

    def _remove(self, orphan: Orphan) -> None:
        try:
            remove(self._cloud, orphan)
        except SeamError as error:
            LOG.error("Orphan %s %s could not be removed, it is tried again: %s", orphan.kind, orphan.id, error)
        else:
            LOG.warning("Orphan removed: %s %s", orphan.kind, orphan.id)


def remove(cloud: Cloud, orphan: Orphan) -> None:
    """Ask the cloud to. Raises SeamError."""
    match orphan.kind:
        case "server":
            cloud.compute.delete(orphan.id)
        case "port":
            cloud.networking.delete_port(orphan.id)
        case "security-group":
            cloud.networking.delete_security_group(orphan.id, orphan.tags)
        case "server-group":
            cloud.compute.delete_server_group(orphan.id)


def _has_owner(resource: Orphan, owners: Owners) -> bool:
    """One without such a tag is not ours to judge."""
    if resource.amphora_id:
        return resource.amphora_id in owners.amphorae
    return resource.loadbalancer_id is None or resource.loadbalancer_id in owners.loadbalancers


def _left_server_groups(names: list[str], owners: Owners) -> Iterator[Orphan]:
    """Those of load balancers that we know to be deleted: no tag tells whose a group with any other name is."""
    prefix = server_group_name("")
    for name in sorted(set(names)):
        loadbalancer_id = name.removeprefix(prefix)
        if name.startswith(prefix) and loadbalancer_id in owners.deleted_loadbalancers:
            yield Orphan("server-group", name, frozenset({f"tavia-loadbalancer={loadbalancer_id}"}))
