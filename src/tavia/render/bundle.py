"""The bundle of one amphora from its load balancer's tree."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network

from tavia.amphora.bundle import Bundle, Fence, Interface, ProgramFile
from tavia.model.member_ports import member_ports
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import Topology
from tavia.model.tree import Tree
from tavia.render.haproxy import Proxies, render_haproxy, render_proxies
from tavia.render.keepalived import render_keepalived
from tavia.render.settings import RenderSettings, VipNetwork, VipRange

VIP_INTERFACE = "eth1"


def render_bundle(
    tree: Tree,
    amphora: Amphora,
    peer: Amphora | None,
    network: VipNetwork,
    settings: RenderSettings,
    fence: Fence,
    proxies: Proxies | None = None,
) -> Bundle:
    """What ``amphora`` is to do at the tree's generation.

    ``tree`` is a :meth:`Tree.intended`; ``peer`` is the other half of the pair, None while it is missing and for
    SINGLE. A peer without an address counts as missing. ``proxies`` are the tree's, where they were rendered before.
    Raises SeamError (control, amphora-incomplete) when the row lacks what rendering needs.
    """
    lb = tree.loadbalancer
    if not (amphora.vrrp_ip and amphora.vrrp_mac and lb.vip_address):
        raise SeamError(
            Seam.CONTROL,
            "amphora-incomplete",
            f"amphora {amphora.id} has no address on the VIP's network yet: its port must be made first",
        )
    files: dict[str, str] = {
        ProgramFile.HAPROXY: render_haproxy(proxies or render_proxies(tree, settings), amphora, peer, settings)
    }
    vips = _vips(lb)
    if paired := lb.topology is Topology.ACTIVE_STANDBY:
        peer_address = peer.vrrp_ip if peer else None
        files[ProgramFile.KEEPALIVED] = render_keepalived(
            amphora,
            address=amphora.vrrp_ip,
            peer_address=peer_address,
            interface=VIP_INTERFACE,
            vips=vips,
            settings=settings,
        )
    interface = Interface(
        name=VIP_INTERFACE,
        mac=amphora.vrrp_mac,
        mtu=network.mtu,
        addresses=(_with_prefix(amphora.vrrp_ip, network.cidr), *_additional_addresses(amphora, network)),
        vips=() if paired else tuple(vips),
        routes=_routes(network),
    )
    return Bundle(
        amphora_id=amphora.id,
        loadbalancer_id=lb.id,
        generation=tree.generation,
        fence=fence,
        files=files,
        interfaces=(interface, *_member_interfaces(tree, amphora)),
    )


def _with_prefix(address: str, cidr: str) -> str:
    return f"{address}/{ip_network(cidr).prefixlen}"


def _additional_addresses(amphora: Amphora, network: VipNetwork) -> Iterator[str]:
    cidr_of = {subnet.id: subnet.cidr for subnet in network.additional}
    for entry in amphora.additional_ips:
        yield _with_prefix(entry["ip_address"], cidr_of[entry["subnet_id"]])


def _member_interfaces(tree: Tree, amphora: Amphora) -> Iterator[Interface]:
    """Those on subnets that members are on. No default route: the way to everywhere else is the VIP's."""
    subnets = tree.member_subnets()
    for port in member_ports(amphora):
        if port.port_id and port.subnet_id in subnets:
            yield Interface(
                name=port.interface, mac=port.mac, mtu=port.mtu, addresses=(port.address,), routes=port.routes
            )


def _vips(lb: LoadBalancer) -> list[str]:
    # As single hosts: the subnet's route comes with the amphora's own address. Packed, an IPv6 address loses its zone,
    # which may hold any character and keepalived.conf has no quotes.
    return [str(ip_network(ip_address(address).packed)) for address in lb.vips]


def _routes(network: VipNetwork) -> tuple[tuple[str, str], ...]:
    """The VIP's subnet shows the way to everywhere; an additional one does for the other IP version."""
    everywhere: dict[str, str] = {}
    host_routes: list[tuple[str, str]] = []
    ranges: tuple[VipRange, ...] = (network, *network.additional)
    for subnet in ranges:
        if subnet.gateway_ip is not None:
            is_ipv6 = isinstance(ip_address(subnet.gateway_ip), IPv6Address)
            everywhere.setdefault("::/0" if is_ipv6 else "0.0.0.0/0", subnet.gateway_ip)
        host_routes += subnet.host_routes
    return (*everywhere.items(), *host_routes)
