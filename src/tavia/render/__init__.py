"""Tree to configuration: haproxy.cfg, keepalived.conf and the bundle around them. Pure; the worker calls it.

What the agent, health and the worker may rely on: a front end is named by its listener's id, a back end
``<pool id>:<listener id>``, a server by its member's id.
"""

from tavia.render.bundle import render_bundle
from tavia.render.haproxy import Proxies, render_proxies, unit_of_line
from tavia.render.keepalived import VRRP_PRIORITY
from tavia.render.settings import RenderSettings, VipNetwork, VipSubnet

__all__ = [
    "VRRP_PRIORITY",
    "Proxies",
    "RenderSettings",
    "VipNetwork",
    "VipSubnet",
    "render_bundle",
    "render_proxies",
    "unit_of_line",
]
