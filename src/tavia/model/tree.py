"""A load balancer with all that belongs to it, as read at one generation."""

from __future__ import annotations

from dataclasses import dataclass

from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A snapshot: every list holds rows marked deleted too, unless it was made by :meth:`wanted`."""

    loadbalancer: LoadBalancer
    listeners: tuple[Listener, ...] = ()
    pools: tuple[Pool, ...] = ()
    members: tuple[Member, ...] = ()
    healthmonitors: tuple[HealthMonitor, ...] = ()
    amphorae: tuple[Amphora, ...] = ()

    @property
    def generation(self) -> int:
        """The load balancer's generation at which this was read."""
        return self.loadbalancer.generation

    def wanted(self) -> Tree:
        """The same without the rows whose deletion was accepted."""
        return Tree(
            loadbalancer=self.loadbalancer,
            listeners=tuple(r for r in self.listeners if r.deleted_generation is None),
            pools=tuple(r for r in self.pools if r.deleted_generation is None),
            members=tuple(r for r in self.members if r.deleted_generation is None),
            healthmonitors=tuple(r for r in self.healthmonitors if r.deleted_generation is None),
            amphorae=self.amphorae,
        )

    def members_of(self, pool_id: str) -> tuple[Member, ...]:
        """The members of a pool, oldest first."""
        return tuple(m for m in self.members if m.pool_id == pool_id)

    def monitor_of(self, pool_id: str) -> HealthMonitor | None:
        """The health monitor of a pool, if it has one."""
        return next((h for h in self.healthmonitors if h.pool_id == pool_id), None)
