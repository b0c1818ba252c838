"""Which address a port gets, and its MAC. Pure; the daemon's networking decides with it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection

from tavia.cloud.protocols import AddressRefused, Subnet

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def choose(subnet: Subnet, taken: Collection[str], wanted: str | None, after: str | None = None) -> str:
    """The wanted address when a port may have it, else the first free one behind ``after``, wrapping around.

    Going on behind the last one given keeps an address out of use for a while once it was freed: neighbours' ARP
    caches still name its former owner. Raises AddressRefused.
    """
    network = ipaddress.ip_network(subnet.cidr)
    if wanted is not None:
        return _check_wanted(subnet, network, taken, wanted)
    first, last = _range(network)
    start = int(ipaddress.ip_address(after)) + 1 if after else first
    for number in _wrapped(first, last, start, limit=len(taken) + 2):
        address = str(network[number - int(network.network_address)])
        if address not in taken and address != subnet.gateway_ip:
            return address
    raise AddressRefused("subnet-full", f"no free address is left in subnet {subnet.name} ({subnet.cidr})")


def _check_wanted(subnet: Subnet, network: IPNetwork, taken: Collection[str], wanted: str) -> str:
    address = check_inside(network, wanted)
    if address in taken or address == subnet.gateway_ip:
        raise AddressRefused("address-in-use", f"{address} is in use in subnet {subnet.name}")
    return address


def check_inside(network: IPNetwork, wanted: str) -> str:
    """The address as it is spelled everywhere, when it is a host address of the network. Raises AddressRefused."""
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError:
        raise AddressRefused("address-outside-subnet", f"{wanted!r} is not an IP address") from None
    first, last = _range(network)
    if address.version != network.version or not first <= int(address) <= last:
        raise AddressRefused("address-outside-subnet", f"{address} is not a host address of {network}")
    return str(address)


def _range(network: IPNetwork) -> tuple[int, int]:
    """First and last host address: never the network's own, nor the broadcast (IPv6: subnet-router anycast)."""
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.num_addresses <= 2:  # noqa: PLR2004 - point-to-point networks have hosts only (RFC 3021, RFC 6164)
        return first, last
    return first + 1, last - (network.version == 4)  # noqa: PLR2004


def _wrapped(first: int, last: int, start: int, limit: int) -> list[int]:
    """Up to ``limit`` numbers from ``start`` to ``last`` and on from ``first``: enough to pass everything taken."""
    start = start if first <= start <= last else first
    size = last - first + 1
    return [first + (start - first + step) % size for step in range(min(limit, size))]


def mac_address(identity: str) -> str:
    """A locally administered unicast MAC (IEEE 802, second-least bit of the first octet), from a unique string."""
    digest = hashlib.sha256(identity.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def link_local(mac: str) -> str:
    """The IPv6 link-local address that the kernel derives from a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + interface_id))
