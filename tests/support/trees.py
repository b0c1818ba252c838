"""Load balancers made by hand, with ids that read well, for tests of what is made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tavia.amphora.bundle import Fence
from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.statuses import AmphoraStatus, Role, Topology
from tavia.model.tree import Rows, Tree
from tavia.render import RenderSettings, VipNetwork, render_bundle

NOW = datetime(2026, 1, 2, 3, 4, 5)
NETWORK = VipNetwork(cidr="10.20.0.0/24", gateway_ip="10.20.0.1", host_routes=(), mtu=1450)
OWN: dict[str, Any] = {"project_id": "tenant", "created_at": NOW}


def loadbalancer(**given: Any) -> LoadBalancer:
    return LoadBalancer(**(OWN | {"id": "lb", "vip_address": "10.20.0.9", "generation": 7} | given))


def listener(own_id: str = "web", /, **given: Any) -> Listener:
    defaults = {"loadbalancer_id": "lb", "protocol": "HTTP", "protocol_port": 80, "default_pool_id": "app"}
    return Listener(**(OWN | {"id": own_id} | defaults | given))


def pool(own_id: str = "app", /, **given: Any) -> Pool:
    defaults = {"loadbalancer_id": "lb", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    return Pool(**(OWN | {"id": own_id} | defaults | given))


def member(own_id: str = "m1", /, **given: Any) -> Member:
    defaults = {"loadbalancer_id": "lb", "pool_id": "app", "address": "10.20.0.101", "protocol_port": 8080}
    return Member(**(OWN | {"id": own_id} | defaults | given))


def monitor(own_id: str = "check", /, **given: Any) -> HealthMonitor:
    times = {"delay": 5, "timeout": 4, "max_retries": 2, "max_retries_down": 3}
    return HealthMonitor(
        **(OWN | {"id": own_id, "loadbalancer_id": "lb", "pool_id": "app", "type": "HTTP"} | times | given)
    )


def amphora(own_id: str = "amphora-1", /, **given: Any) -> Amphora:
    defaults: dict[str, Any] = {
        "loadbalancer_id": "lb",
        "vrrp_ip": "10.20.0.5",
        "vrrp_mac": "fa:16:3e:00:00:05",
        "role": Role.STANDALONE,
        "status": AmphoraStatus.ALLOCATED,
        "created_at": NOW,
    }
    return Amphora(**({"id": own_id} | defaults | given))


def tree(*rows: Any, **given: Any) -> Tree:
    """A tree of these rows, in any order; ``given`` are attributes of the load balancer."""
    return Tree(loadbalancer=loadbalancer(**given), rows=Rows(rows))


def haproxy_cfg(*rows: Any, settings: RenderSettings | None = None, **given: Any) -> str:
    """The haproxy.cfg of a single amphora that serves a tree of these rows."""
    bundle = render_bundle(
        tree(*rows, **given), amphora(), None, NETWORK, settings or RenderSettings(), Fence(1, 1, "worker")
    )
    return bundle.files["haproxy.cfg"]


def pair(master_ip: str = "10.20.0.5", backup_ip: str = "10.20.0.6") -> tuple[Amphora, Amphora]:
    """The amphorae of an ACTIVE_STANDBY load balancer."""
    return (
        amphora("amphora-1", role=Role.MASTER, vrrp_ip=master_ip),
        amphora("amphora-2", role=Role.BACKUP, vrrp_ip=backup_ip, vrrp_mac="fa:16:3e:00:00:06"),
    )


PAIRED = Topology.ACTIVE_STANDBY
