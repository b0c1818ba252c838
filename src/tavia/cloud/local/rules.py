"""The fabric's nftables ruleset: a port sends from its own and its allowed addresses only. Pure text.

This is what makes fencing real: an address taken from a port's allowed ones is gone for whatever runs behind the port,
in ARP, IPv4, IPv6 and neighbour discovery. ``nft(8)``, bridge family.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tavia.cloud.local.addresses import link_local
from tavia.cloud.protocols import Port

_HEAD = """\
table bridge tavia
delete table bridge tavia
table inet tavia
delete table inet tavia
table bridge tavia {
    set macs { type ifname . ether_addr; }
    set sources4 { type ifname . ipv4_addr; }
    set sources6 { type ifname . ipv6_addr; }
    set targets6 { typeof meta iifname . @th,64,128; }
    chain prerouting {
        type filter hook prerouting priority -200; policy accept;
        iifname != "tap*" accept
        ether type != { arp, ip, ip6 } drop
        iifname . ether saddr != @macs drop
        ether type arp iifname . arp saddr ip != @sources4 drop
        iifname . ip saddr != @sources4 drop
        icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 drop
        icmpv6 type nd-neighbor-solicit ip6 saddr :: accept
        iifname . ip6 saddr != @sources6 drop
    }
}
table inet tavia {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname != "lo" fib daddr . iif type != { local, broadcast, multicast } drop
    }
}
"""
"""The inet table keeps tenants off the controllers: an address of the fabric answers on its own network only."""


def interface(port_id: str) -> str:
    """The fabric's end of a port's veth: Neutron's way to name it, 14 of the 15 characters that the kernel allows."""
    return f"tap{port_id[:11]}"


def ruleset(ports: Iterable[Port]) -> str:
    """All rules from nothing, in one transaction."""
    return _HEAD + "".join(change(None, port) for port in ports)


def change(old: Port | None, new: Port | None) -> str:
    """What to run when a port comes, changes or goes. Harmless when run again."""
    before = _elements(old) if old else set()
    after = _elements(new) if new else set()
    # An element is added before it is deleted: deleting one that is not there would fail the transaction.
    lines = [f"add element bridge tavia {name} {{ {element} }}" for name, element in sorted(before | after)]
    lines += [f"delete element bridge tavia {name} {{ {element} }}" for name, element in sorted(before - after)]
    return "".join(f"{line}\n" for line in lines)


def _elements(port: Port) -> set[tuple[str, str]]:
    """(set, element) pairs of a port."""
    name = interface(port.id)
    own = {fixed_ip.ip_address for fixed_ip in port.fixed_ips} | port.allowed_addresses | {link_local(port.mac_address)}
    elements = {("macs", f'"{name}" . {port.mac_address}')}
    for text in own:
        address = ipaddress.ip_address(text)
        elements.add((f"sources{address.version}", f'"{name}" . {address}'))
        if isinstance(address, ipaddress.IPv6Address):
            elements.add(("targets6", f'"{name}" . {int(address):#034x}'))
    return elements
