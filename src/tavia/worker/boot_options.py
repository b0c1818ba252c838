"""What configuration, and its load balancer, say about the amphora that is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tavia.cloud.protocols import Volume
from tavia.model.resources import Amphora, LoadBalancer


@dataclass(frozen=True, kw_only=True)
class BootOptions:
    """``cert_validity`` and times are seconds.

    ``boot_network_ids``: the first is the management network, whose ports get ``security_group_ids``.
    ``anti_affinity``: the policy of a pair's server group, None: no group. ``active_patience`` is how long compute may
    take to say that a server runs, ``agent_patience`` how long its agent may take to answer after that; it is tried at
    least every ``agent_interval``.
    ``build_rate_limit`` amphorae are built by compute at a time, None: any number. ``peers_only``: the halves of a pair
    let each other's traffic in from each other alone. ``random_name_length``: of servers' names, 0: they tell the
    amphora.
    """

    deployment_id: str
    boot_network_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    image_tag: str | None = None
    image_owner_id: str | None = None
    flavor: str | None = None
    key_name: str | None = None
    availability_zone: str | None = None
    anti_affinity: str | None = None
    volume: Volume | None = None
    client_ca: bytes
    controllers: tuple[str, ...]
    heartbeat_interval: float
    heartbeat_key: str
    agent_port: int
    cert_validity: float
    active_patience: float
    agent_patience: float
    agent_interval: float
    build_rate_limit: int | None = None
    peers_only: bool = True
    random_name_length: int = 0

    def of(self, loadbalancer: LoadBalancer) -> BootOptions:
        """With what its load balancer boots with, where that was resolved when it was accepted."""
        return replace(
            self,
            flavor=loadbalancer.compute_flavor or self.flavor,
            availability_zone=loadbalancer.compute_zone or self.availability_zone,
            image_tag=loadbalancer.image_tag or self.image_tag,
        )

    def tags(self, amphora: Amphora) -> frozenset[str]:
        """What all that is made for an amphora carries."""
        return frozenset({f"tavia-deployment={self.deployment_id}", f"tavia-amphora={amphora.id}"})

    def loadbalancer_tags(self, loadbalancer_id: str) -> frozenset[str]:
        """What a load balancer's VIP port and security group carry."""
        return frozenset({f"tavia-deployment={self.deployment_id}", f"tavia-loadbalancer={loadbalancer_id}"})
