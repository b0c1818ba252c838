"""How each resource is called: in URLs and bodies, in fault strings, in the arguments that faults name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource's names. ``word`` and ``words`` are the root keys of bodies, ``title`` is for people.

    ``argument`` is what Octavia's faults call a body.
    """

    resource: type[Any]
    word: str
    words: str
    title: str
    argument: str

    @property
    def parameter(self) -> str:
        """The name of its id in the templates of URLs."""
        return f"{self.word}_id"


LOADBALANCER = Kind(LoadBalancer, "loadbalancer", "loadbalancers", "Load Balancer", "load_balancer")
LISTENER = Kind(Listener, "listener", "listeners", "Listener", "listener_")
POOL = Kind(Pool, "pool", "pools", "Pool", "pool_")
MEMBER = Kind(Member, "member", "members", "Member", "member_")
HEALTHMONITOR = Kind(HealthMonitor, "healthmonitor", "healthmonitors", "Health Monitor", "health_monitor_")
AMPHORA = Kind(Amphora, "amphora", "amphorae", "Amphora", "amphora")
