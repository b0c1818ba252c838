"""What rendering needs beside the tree: facts of the VIP's network and the operator's choices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VipRange:
    """A VIP's subnet as the cloud tells it. ``host_routes`` are (destination, next hop)."""

    cidr: str
    gateway_ip: str | None
    host_routes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class VipSubnet(VipRange):
    """The subnet of an additional VIP."""

    id: str


@dataclass(frozen=True, kw_only=True)
class VipNetwork(VipRange):
    """The VIP's own subnet, the network's ``mtu`` in bytes, and the subnets of ``additional`` VIPs, all in there."""

    mtu: int
    additional: tuple[VipSubnet, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """From configuration: ``[haproxy_amphora]`` and ``[keepalived_vrrp]``. Floats are seconds.

    ``stick_size`` is in HAProxy's notation. ``hard_stop_after`` is how long a connection may keep the HAProxy alive
    that a reload replaced. ``nbthread`` None lets HAProxy take every CPU that it may run on. ``log_format`` is
    Octavia's ``user_log_format``.
    """

    vrrp_advert_int: float = 1.0
    garp_refresh_interval: int = 5
    garp_refresh_count: int = 2
    default_connection_limit: int = 50000
    stick_size: str = "10k"
    hard_stop_after: float = 1800.0
    nbthread: int | None = None
    connection_logging: bool = False
    log_format: str | None = None
