"""An amphora's ports on its members' subnets, as its row holds them: written before they are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tavia.model.resources import Amphora

FIRST_INTERFACE = 2
"""eth0 is for management, eth1 for the VIP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPort:
    """One port: on which subnet, and the ``interface`` that it is inside, for as long as it is there.

    The rest is known once it is plugged: ``address`` has a prefix length, ``mtu`` is in bytes, ``routes`` are the
    subnet's (destination, next hop).
    """

    subnet_id: str
    interface: str
    port_id: str | None = None
    mac: str = ""
    address: str = ""
    mtu: int = 0
    routes: tuple[tuple[str, str], ...] = ()


def member_ports(amphora: Amphora) -> tuple[MemberPort, ...]:
    """What the amphora has, or was to be given."""
    return tuple(
        MemberPort(**entry | {"routes": tuple((to, via) for to, via in entry["routes"])})
        for entry in amphora.member_ports
    )


def plugged_subnets(amphora: Amphora) -> frozenset[str]:
    """The subnets that the amphora reaches."""
    return frozenset(port.subnet_id for port in member_ports(amphora) if port.port_id)


def as_column(ports: Iterable[MemberPort]) -> list[dict[str, Any]]:
    """The row's form."""
    return [asdict(port) | {"routes": [list(route) for route in port.routes]} for port in ports]


def planned(ports: Iterable[MemberPort], subnet_ids: Iterable[str]) -> tuple[MemberPort, ...]:
    """These ports, and one each for subnets that have none yet, on the lowest interfaces that are free."""
    found = list(ports)
    for subnet_id in subnet_ids:
        if all(port.subnet_id != subnet_id for port in found):
            taken = {port.interface for port in found}
            number = next(n for n in range(FIRST_INTERFACE, len(found) + 3) if f"eth{n}" not in taken)
            found.append(MemberPort(subnet_id=subnet_id, interface=f"eth{number}"))
    return tuple(found)


def filled(ports: Iterable[MemberPort], port: MemberPort) -> tuple[MemberPort, ...]:
    """These ports, with the one on its subnet replaced by ``port``."""
    return tuple(port if each.subnet_id == port.subnet_id else each for each in ports)
