"""[quotas]: how many of each resource a project may have where nothing else is said; -1 is no limit."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "quotas"
OPTIONS = [
    cfg.IntOpt(f"default_{resource}_quota", default=-1, min=-1, help=f"Most {plural} of one project; -1: no limit.")
    for resource, plural in (
        ("load_balancer", "load balancers"),
        ("listener", "listeners"),
        ("pool", "pools"),
        ("member", "members"),
        ("health_monitor", "health monitors"),
    )
]
