"""The effects of the local network: namespaces, bridges, veth pairs and rules, all in one namespace, the fabric.

The daemon lives inside the fabric, so ``ip`` and ``nft`` run there without further ado. Every call may be repeated.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from tavia.cloud.local import linux, processes, rules
from tavia.cloud.local.addresses import mac_address
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.protocols import Port, Subnet
from tavia.model.seams import Seam, SeamError

_TIMEOUT = 10.0
"""Seconds for one run of a tool, and for the kernel to let go of something."""

_FABRIC_SYSCTLS = {
    # No routing between networks: a tenant's machine must not reach the amphorae's management addresses.
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/forwarding": "0",
    # An address is known by the MAC of its own interface: the management bridge must not answer for o-hm0.
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv6/conf/default/accept_ra": "0",
    # Bridged frames are none of the IP hooks' business; without br_netfilter these files are missing.
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}


def require_tools() -> None:
    """Raises SeamError when the machine lacks what the fabric is made with."""
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            message = f"the command {tool} is missing: apt-get install {package}"
            raise SeamError(Seam.BOOT, f"{package}-missing", message, permanent=True)


def run(command: Sequence[str], text: str = "") -> None:
    """Run a tool with ``text`` as its input. Raises SeamError with the tool's own words."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip()
        raise SeamError(Seam.BOOT, f"{Path(command[0]).name}-failed", f"{' '.join(command)}: {said}")


def batch(lines: Iterable[str]) -> None:
    """Several ``ip`` commands in one process."""
    run(["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))


def enter(name: str) -> None:
    """Make the fabric's namespace if needed and move the calling thread, and so its later threads, into it."""
    make_namespace(name)
    linux.enter_network(NETNS_DIR / name)
    for key, value in _FABRIC_SYSCTLS.items():
        with suppress(FileNotFoundError):
            (Path("/proc/sys") / key).write_text(value)
    batch(["link set lo up"])


def make_namespace(name: str) -> None:
    """A named network namespace. A name without a namespace, left by a crash between the two, is replaced."""
    path = NETNS_DIR / name
    if path.exists():
        if path.stat().st_dev != Path("/proc/self/ns/net").stat().st_dev:
            path.unlink()
        else:
            return
    run(["ip", "netns", "add", name])


def delete_namespace(name: str) -> None:
    """Kill what runs in a named network namespace and remove it; nothing when it is gone already."""
    path = NETNS_DIR / name
    if path.exists():
        processes.kill_all(processes.in_network(path), _TIMEOUT)
        run(["ip", "netns", "delete", name])


def exists(interface: str) -> bool:
    """Whether the fabric has such an interface."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def make_bridge(name: str, mtu: int) -> None:
    """A bridge that forwards at once and floods multicast (VRRP, neighbour discovery).

    Its MAC is given: else the kernel changes it as ports come and go, and neighbours lose the gateway.
    """
    if not exists(name):
        mac = mac_address(name)
        options = "type bridge forward_delay 0 mcast_snooping 0"
        batch([f"link add {name} address {mac} mtu {mtu} {options}", f"link set {name} up"])


def serve_gateway(bridge: str, subnet: Subnet) -> None:
    """Give the bridge the subnet's gateway address, so that processes in the fabric reach the subnet."""
    if subnet.gateway_ip:
        batch([f"addr replace {address_of(subnet.gateway_ip, subnet)} dev {bridge} {_no_dad(subnet)}"])


def delete_interface(name: str) -> None:
    """Remove an interface of the fabric and wait until its name is free; nothing when it is gone already."""
    deadline = time.monotonic() + _TIMEOUT
    while exists(name):
        # The kernel may be removing it at this moment, on behalf of a namespace that died.
        with suppress(SeamError):
            batch([f"link delete {name}"])
            continue
        if time.monotonic() > deadline:
            raise SeamError(Seam.BOOT, "interface-stays", f"the interface {name} cannot be removed")
        time.sleep(0.005)


def plug(port: Port, bridge: str, mtu: int, inside: str, namespace: str) -> list[str]:
    """``ip`` commands: connect a namespace (pid, name or path) to a bridge; there the interface is named ``inside``.

    The fabric forgets who had the port's addresses before: the first connection would be lost on that one's MAC.
    """
    outside = rules.interface(port.id)
    peer = f"peer name {inside} address {port.mac_address} mtu {mtu} netns {namespace}"
    forget = [f"neigh flush to {fixed_ip.ip_address}" for fixed_ip in port.fixed_ips]
    return [f"link add {outside} mtu {mtu} type veth {peer}", f"link set {outside} master {bridge} up", *forget]


def configure(inside: str, port: Port, subnets: Iterable[Subnet], *, gateway: bool) -> list[str]:
    """``ip`` commands to run in the port's namespace: what DHCP would set. ``gateway``: default route too."""
    by_id = {subnet.id: subnet for subnet in subnets}
    lines = []
    routes = []
    for fixed_ip in port.fixed_ips:
        subnet = by_id[fixed_ip.subnet_id]
        lines.append(f"addr replace {address_of(fixed_ip.ip_address, subnet)} dev {inside} {_no_dad(subnet)}")
        routes += [f"route replace {to} via {via} dev {inside}" for to, via in subnet.host_routes]
        if gateway and subnet.gateway_ip:
            routes.append(f"route replace default via {subnet.gateway_ip} dev {inside}")
    return [*lines, f"link set {inside} up", *routes]


def apply(ruleset: str) -> None:
    """One nftables transaction."""
    run(["nft", "-f", "-"], ruleset)


def address_of(address: str, subnet: Subnet) -> str:
    """The address with the subnet's prefix length."""
    return f"{address}/{ipaddress.ip_network(subnet.cidr).prefixlen}"


def _no_dad(subnet: Subnet) -> str:
    """Our own address management knows that an IPv6 address is free: no second of duplicate detection."""
    return "nodad" if ":" in subnet.cidr else ""
