"""The one table of protocols: what a listener or a pool of each speaks, and what it takes.

From api-surface, "Pool protocols that a listener protocol takes" and "Rules worth knowing". A protocol that is not in
here yet cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Transport = Literal["tcp", "udp", "sctp"]
"""What runs over IP, as Neutron and nftables call it. Each has ports of its own."""
Mode = Literal["http", "tcp"]
"""HAProxy's (manual 4.2, "mode")."""

ListenerProtocol = Literal["HTTP", "TCP"]
PoolProtocol = Literal["HTTP", "TCP", "PROXY", "PROXYV2", "HTTPS"]
MonitorType = Literal["HTTP", "TCP"]
PersistenceType = Literal["APP_COOKIE", "HTTP_COOKIE", "SOURCE_IP"]


@dataclass(frozen=True, slots=True)
class OfListener:
    """What a listener of a protocol runs over, how HAProxy serves it, and the protocols of pools that it takes."""

    transport: Transport
    mode: Mode
    pools: frozenset[PoolProtocol]


@dataclass(frozen=True, slots=True)
class OfPool:
    """The types of health monitors and of session persistence that a pool of a protocol takes."""

    monitors: frozenset[MonitorType]
    persistence: frozenset[PersistenceType]


_MONITORS: frozenset[MonitorType] = frozenset({"HTTP", "TCP"})
_BY_ADDRESS: frozenset[PersistenceType] = frozenset({"SOURCE_IP"})
_BY_COOKIE: frozenset[PersistenceType] = _BY_ADDRESS | {"APP_COOKIE", "HTTP_COOKIE"}

LISTENER_PROTOCOLS: Mapping[ListenerProtocol, OfListener] = {
    "TCP": OfListener("tcp", "tcp", frozenset({"HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"})),
    "HTTP": OfListener("tcp", "http", frozenset({"HTTP", "PROXY", "PROXYV2"})),
}
POOL_PROTOCOLS: Mapping[PoolProtocol, OfPool] = {
    "HTTP": OfPool(_MONITORS, _BY_COOKIE),
    "TCP": OfPool(_MONITORS, _BY_ADDRESS),
    "PROXY": OfPool(_MONITORS, _BY_COOKIE),
    "PROXYV2": OfPool(_MONITORS, _BY_COOKIE),
    "HTTPS": OfPool(_MONITORS, _BY_ADDRESS),
}


def over(transport: Transport) -> frozenset[ListenerProtocol]:
    """The protocols of listeners whose ports are the transport's."""
    return frozenset(name for name, protocol in LISTENER_PROTOCOLS.items() if protocol.transport == transport)
