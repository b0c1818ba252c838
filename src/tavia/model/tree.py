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

    def member_subnets(self) -> frozenset[str]:
        """The subnets that members are on, but for the VIPs': amphorae have an address there anyway."""
        lb = self.loadbalancer
        vips = {lb.vip_subnet_id, *(vip["subnet_id"] for vip in lb.additional_vips)}
        return frozenset(m.subnet_id for m in self.members if m.subnet_id and m.subnet_id not in vips)

    def members_of(self, pool_id: str) -> tuple[Member, ...]:
        """The members of a pool, oldest first."""
        return tuple(m for m in self.members if m.pool_id == pool_id)

    def monitor_of(self, pool_id: str) -> HealthMonitor | None:
        """The health monitor of a pool, if it has one."""
        return next((h for h in self.healthmonitors if h.pool_id == pool_id), None)
