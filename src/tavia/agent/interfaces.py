"""The amphora's interfaces: found by MAC address, named, addressed and routed as the bundle says.

:func:`batch` decides (pure) from what ``ip -j addr`` and ``ip -j route`` show; one ``ip -batch`` does it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from tavia.agent.processes import run
from tavia.amphora.bundle import Interface
from tavia.amphora.protocol import AgentFailed

LOG = logging.getLogger(__name__)

Links = list[dict[str, Any]]

PLUG_SECONDS, PLUG_POLL = 5.0, 0.05
"""How long an interface that was plugged in may take to show, and the time between two looks."""

SIOCGIFFLAGS, IFF_RUNNING = 0x8913, 0x40
"""netdevice(7): an interface's flags, and the one that it has while it is up and has carrier."""

SYSCTLS = {
    # The standby's HAProxy binds the VIP before VRRP brings it.
    "net/ipv4/ip_nonlocal_bind": "1",
    "net/ipv6/ip_nonlocal_bind": "1",
    # A removed address takes no other of its subnet with it.
    "net/ipv4/conf/all/promote_secondaries": "1",
    # An interface that comes up tells its neighbours its IPv6 addresses, as arping does for IPv4.
    "net/ipv6/conf/default/ndisc_notify": "1",
}


def prepare() -> None:
    """Set what the kernel must allow before anything binds."""
    for name, value in SYSCTLS.items():
        path = Path("/proc/sys") / name
        if path.exists():  # no IPv6 here: nothing to allow
            path.write_text(value)


async def converge(old: Sequence[Interface], new: Sequence[Interface]) -> list[tuple[str, str]]:
    """Make the interfaces what ``new`` says, taking away what only ``old`` has.

    Returns the addresses that were added, (interface, address) each. Raises AgentFailed: interface-missing with
    the MAC addresses that are not there after PLUG_SECONDS, interface-failed with what ``ip`` said.
    """
    links, routes = await _plugged({each.mac.lower() for each in new})
    if any(":" in hop for each in (*old, *new) for _, hop in each.routes):
        routes += (await _shown("-6", "route", "show"))[0]
    if commands := list(batch(links, routes, old, new)):
        LOG.info("interfaces: %s", "; ".join(commands))
        done = await run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")
        if done.code != 0:
            raise AgentFailed("interface-failed", done.output.strip())
    present = {_plain(address) for link in links for address in _addresses(link)}
    wanted = ((each.name, _plain(address)) for each in new for address in (*each.addresses, *each.vips))
    return [(name, address) for name, address in wanted if address not in present]


async def _plugged(macs: set[str]) -> list[Links]:
    """Links and IPv4 routes, once all of the MAC addresses are there. Raises AgentFailed."""
    deadline = time.monotonic() + PLUG_SECONDS
    while True:
        links, routes = await _shown("-batch", "-", stdin="addr show\nroute show\n")
        missing = sorted(macs - {link.get("address", "") for link in links})
        if not missing:
            return [links, routes]
        if time.monotonic() > deadline:
            raise AgentFailed("interface-missing", f"no interface has the MAC address {', '.join(missing)}")
        await asyncio.sleep(PLUG_POLL)


def without_carrier(wanted: Iterable[Interface]) -> list[str]:
    """The names of those that carry nothing: down, unplugged at the other end, or not there at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return [each.name for each in wanted if not _runs(asked, each.name)]


def _runs(asked: socket.socket, name: str) -> bool:
    try:
        answer = fcntl.ioctl(asked, SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
    except OSError:
        return False
    return bool(struct.unpack("16sh14x", answer)[1] & IFF_RUNNING)


async def announce(added: Iterable[tuple[str, str]]) -> None:
    """Tell the neighbours that these IPv4 addresses live here now (gratuitous ARP); takes some seconds.

    Also an amphora's own: a peer that found it dead asks once a second only, too late for adverts of 0.1 s. One that
    comes back and hears none of them would take the VIP.
    """
    commands = [
        run("arping", "-q", "-U", "-c", "3", "-w", "3", "-I", name, address)
        for name, address in added
        if _is_ipv4(address)
    ]
    for done in await asyncio.gather(*commands):
        LOG.debug("arping: %s", done)


def batch(links: Links, routes: Links, old: Sequence[Interface], new: Sequence[Interface]) -> Iterator[str]:
    """The commands of ``ip -batch`` that lead from what is there to what is wanted."""
    by_mac = {link.get("address", ""): link for link in links}
    wanted = {each.mac.lower(): each for each in new}
    yield from _renames(links, wanted)
    removals = [command for each in old for command in _removals(by_mac, routes, each, wanted.get(each.mac.lower()))]
    yield from removals
    for interface in new:
        # With an address the kernel takes the routes that need it, so all are set again.
        yield from _configured(by_mac[interface.mac.lower()], [] if removals else routes, interface)


def _removals(
    by_mac: dict[str, dict[str, Any]], routes: Links, old: Interface, kept: Interface | None
) -> Iterator[str]:
    link = by_mac.get(old.mac.lower())
    if link is None or (kept and kept.name != link["ifname"]):
        return  # it is gone or begins anew
    for destination, hop in sorted(set(old.routes) - set(kept.routes if kept else ())):
        if _routed(routes, destination, hop):
            yield f"route del {destination} via {hop} dev {link['ifname']}"
    there = {ip_interface(address) for address in _addresses(link)}
    keep = {ip_interface(address) for address in (*kept.addresses, *kept.vips)} if kept else set()
    stale = {ip_interface(address) for address in (*old.addresses, *old.vips)} & there - keep
    yield from (f"addr del {address} dev {link['ifname']}" for address in sorted(stale, key=str))


def _renames(links: Links, wanted: dict[str, Interface]) -> Iterator[str]:
    """By way of temporary names: a wanted one may still be another's. A renamed one begins without addresses."""
    taken = {interface.name for interface in wanted.values()}
    moved = [
        link
        for link in links
        if (link.get("address") in wanted and link["ifname"] != wanted[link["address"]].name)
        or (link.get("address") not in wanted and link["ifname"] in taken)
    ]
    for link in moved:
        yield f"link set dev {link['ifname']} down"
        yield f"addr flush dev {link['ifname']}"
        yield f"link set dev {link['ifname']} name tavia{link['ifindex']}"
    for link in moved:
        if interface := wanted.get(link.get("address", "")):
            yield f"link set dev tavia{link['ifindex']} name {interface.name}"


def _configured(link: dict[str, Any], routes: Links, interface: Interface) -> Iterator[str]:
    renamed = link["ifname"] != interface.name
    if link["mtu"] != interface.mtu:
        yield f"link set dev {interface.name} mtu {interface.mtu}"
    if renamed or "UP" not in link["flags"]:
        yield f"link set dev {interface.name} up"
    there = set() if renamed else {ip_interface(address) for address in _addresses(link)}
    for address in (*interface.addresses, *interface.vips):
        if ip_interface(address) not in there:
            yield f"addr replace {address} dev {interface.name}{_usable_at_once(address)}"
    for destination, hop in interface.routes:
        if renamed or not _routed(routes, destination, hop):
            yield f"route replace {destination} via {hop} dev {interface.name}"


def _usable_at_once(address: str) -> str:
    return "" if _is_ipv4(address) else " nodad"


def _is_ipv4(address: str) -> bool:
    return isinstance(ip_interface(address).network, IPv4Network)


def _routed(routes: Links, destination: str, hop: str) -> bool:
    return any(
        ip_address(route["gateway"]) == ip_address(hop)
        and _network(route["dst"], hop) == ip_network(destination, strict=False)
        for route in routes
        if "gateway" in route
    )


def _network(shown: str, hop: str) -> IPv4Network | IPv6Network:
    if shown == "default":
        return ip_network("::/0" if ":" in hop else "0.0.0.0/0")
    return ip_network(shown)


def _addresses(link: dict[str, Any]) -> list[str]:
    return [f"{each['local']}/{each['prefixlen']}" for each in link.get("addr_info", ()) if "local" in each]


def _plain(address: str) -> str:
    return address.partition("/")[0]


async def _shown(*words: str, stdin: str = "") -> list[Links]:
    """What ``ip -j`` shows, a list for each of its commands."""
    done = await run("ip", "-j", *words, stdin=stdin)
    if done.code != 0:
        raise AgentFailed("interface-failed", done.output.strip())
    return [json.loads(line) for line in done.output.splitlines()]
