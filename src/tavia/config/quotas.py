"""[quotas]: how many of each resource a project may have where nothing else is said; -1 is no limit."""

from __future__ import annotations

from oslo_config import cfg

from tavia.model.resources import CHILDREN, Configured, LoadBalancer

GROUP = "quotas"
LIMITED: tuple[type[Configured], ...] = (LoadBalancer, *CHILDREN)
OPTIONS = [
    cfg.IntOpt(
        f"default_{resource.table}_quota",
        default=-1,
        min=-1,
        help=f"Most {resource.names.words} of one project; -1: no limit.",
    )
    for resource in LIMITED
]
