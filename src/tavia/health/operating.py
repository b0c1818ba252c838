"""Operating statuses: what a load balancer's amphorae report, told in the words of the API. Pure.

Called by :mod:`tavia.health.recording` when what an amphora reports, or the generation that is applied, has changed.
Meanings: agent-surface, "What the receiver does with one", point 4. HAProxy's words for a server: HAProxy's management
guide, section 9.1 (field ``status``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tavia.amphora.heartbeat import Heartbeat, PoolReport
from tavia.model.resources import Configured, Listener, LoadBalancer, Member, Pool
from tavia.model.statuses import OperatingStatus, ProvisioningStatus
from tavia.model.tree import Tree

_MEMBER = {
    "UP": OperatingStatus.ONLINE,
    "DOWN": OperatingStatus.ERROR,
    "DRAIN": OperatingStatus.DRAINING,
    "NOLB": OperatingStatus.DRAINING,
    "MAINT": OperatingStatus.OFFLINE,
    "no": OperatingStatus.NO_MONITOR,
}
"""By the first word of what HAProxy says of a server: ``UP 1/3``, ``no check``, ``MAINT (resolution)``."""

_WORST_FIRST = (
    OperatingStatus.ERROR,
    OperatingStatus.DRAINING,
    OperatingStatus.OFFLINE,
    OperatingStatus.NO_MONITOR,
    OperatingStatus.ONLINE,
)
"""A pool behind two listeners is two backends of HAProxy, each with its own checks: the worse word counts."""


@dataclass(frozen=True, slots=True)
class Correction:
    """An object of this resource has another operating status than its row says."""

    resource: type[Configured]
    id: str
    status: OperatingStatus


def spokesman(heartbeats: Iterable[Heartbeat]) -> Heartbeat | None:
    """Whose word counts: the VRRP master's, because it carries the traffic.

    Both halves of a pair check the members, but the backup's view of listeners and connections is of no client's
    concern, and its own way to the members may be broken while the clients are served well. With two masters, or none,
    the one at the later generation speaks. One without a bundle has nothing to say.
    """
    applied = [h for h in heartbeats if h.generation > 0]
    return max(applied, key=lambda h: (h.vrrp_state == "MASTER", h.generation, h.amphora_id), default=None)


def corrections(tree: Tree, heartbeats: Iterable[Heartbeat]) -> list[Correction]:
    """What differs between the tree's rows and what its amphorae report."""
    word = spokesman(heartbeats)
    if word is None:
        return []
    intended = tree.intended()
    rows: tuple[Configured, ...] = (intended.loadbalancer, *(row for row in intended.rows if row.is_reported))
    judged = _Judgement(intended, word).statuses
    return [Correction(type(r), r.id, judged[r.id]) for r in rows if judged[r.id] is not r.operating_status]


@dataclass
class _Judgement:
    """One pass from the members up; ``statuses`` by id, ``backends`` are the reports on each pool."""

    tree: Tree
    word: Heartbeat
    statuses: dict[str, OperatingStatus] = field(default_factory=dict)
    backends: dict[str, list[PoolReport]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, report in self.word.pools.items():
            pool_id, _, _ = key.partition(":")  # <pool id>:<listener id>, or <pool id> alone
            self.backends.setdefault(pool_id, []).append(report)
        for member in self.tree.of(Member):
            self.statuses[member.id] = self._member(member)
        for pool in self.tree.of(Pool):
            self.statuses[pool.id] = self._pool(pool)
        for listener in self.tree.of(Listener):
            self.statuses[listener.id] = self._listener(listener)
        self.statuses[self.tree.loadbalancer.id] = self._loadbalancer(self.tree.loadbalancer)

    def _member(self, member: Member) -> OperatingStatus:
        words = [b.members[member.id] for b in self.backends.get(member.pool_id, ()) if member.id in b.members]
        if not words:
            keeps = self._says_nothing_of(member) or member.operating_status is OperatingStatus.NO_MONITOR
            return member.operating_status if keeps else OperatingStatus.OFFLINE
        known = [_MEMBER[first] for first in (word.split()[0] for word in words if word) if first in _MEMBER]
        status = min(known, key=_WORST_FIRST.index, default=member.operating_status)
        drained = member.weight == 0 and status in (OperatingStatus.ONLINE, OperatingStatus.NO_MONITOR)
        return OperatingStatus.DRAINING if drained else status

    def _pool(self, pool: Pool) -> OperatingStatus:
        if not pool.admin_state_up:
            return OperatingStatus.OFFLINE
        backends = self.backends.get(pool.id)
        if backends is None:
            return pool.operating_status if self._says_nothing_of(pool) else OperatingStatus.OFFLINE
        if any(backend.status == "DOWN" for backend in backends):
            return OperatingStatus.ERROR
        members = [self.statuses[m.id] for m in self.tree.below(Member, pool.id)]
        return OperatingStatus.DEGRADED if OperatingStatus.ERROR in members else OperatingStatus.ONLINE

    def _listener(self, listener: Listener) -> OperatingStatus:
        if not (listener.admin_state_up and self.tree.loadbalancer.admin_state_up):
            return OperatingStatus.OFFLINE
        report = self.word.listeners.get(listener.id)
        if report is not None:
            return OperatingStatus.DEGRADED if report.status == "FULL" else OperatingStatus.ONLINE
        return listener.operating_status if self._says_nothing_of(listener) else OperatingStatus.ERROR

    def _loadbalancer(self, loadbalancer: LoadBalancer) -> OperatingStatus:
        if not loadbalancer.admin_state_up:
            return OperatingStatus.OFFLINE
        below = {self.statuses[r.id] for r in (*self.tree.of(Listener), *self.tree.of(Pool))}
        bad = [s for s in (OperatingStatus.ERROR, OperatingStatus.DEGRADED) if s in below]
        return bad[0] if bad else OperatingStatus.ONLINE

    def _says_nothing_of(self, row: Configured) -> bool:
        """Whether this heartbeat's silence about a row proves nothing: a part only, or the row is not applied yet."""
        applied = (
            row.provisioning_status is ProvisioningStatus.ACTIVE and self.word.generation >= row.changed_generation
        )
        return not (self.word.complete and applied)
