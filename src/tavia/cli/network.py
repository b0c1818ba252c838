"""``tavia network ...``: the embedded cloud's networks, since there is no Neutron on one machine."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister
from cliff.show import ShowOne

from tavia.cli.base import InstanceCommand
from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from tavia.cloud.local.client import LocalClient
    from tavia.cloud.protocols import Network, Subnet

Shown = tuple[Sequence[str], Sequence[Any]]


class ListNetworks(Lister, InstanceCommand):
    """List the networks with their subnets, whose ids --vip-subnet-id takes."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff."""
        cloud = self.embedded(parsed_args).cloud
        names = {network.id: network.name for network in cloud.networks()}
        rows = [
            (names[subnet.network_id], subnet.network_id, subnet.name, subnet.id, subnet.cidr, subnet.gateway_ip)
            for subnet in cloud.subnets()
        ]
        return ("network", "network_id", "subnet", "subnet_id", "cidr", "gateway_ip"), sorted(rows, key=lambda r: r[0])


class ShowNetwork(ShowOne, InstanceCommand):
    """Show a network: its subnet and which addresses are in use, by what."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        return _with_network(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        """See cliff."""
        cloud = self.embedded(parsed_args).cloud
        return _shown(cloud, find(cloud, parsed_args.network))


class CreateNetwork(ShowOne, InstanceCommand):
    """Make a network with one subnet, for VIPs and members."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", help="name of the network; its subnet is called NAME-subnet")
        parser.add_argument("--cidr", required=True, help="address range of the subnet, such as 10.20.0.0/24")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        """See cliff."""
        cloud = self.embedded(parsed_args).cloud
        return _shown(cloud, cloud.create_network(name=parsed_args.name, cidr=parsed_args.cidr))


class DeleteNetwork(InstanceCommand):
    """Remove a network that nothing uses."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        return _with_network(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        cloud = self.embedded(parsed_args).cloud
        cloud.delete_network(find(cloud, parsed_args.network).id)


def find(cloud: LocalClient, name_or_id: str) -> Network:
    """The network with this id, else the only one with this name. Raises SeamError no-network, many-networks."""
    networks = cloud.networks()
    found = [network for network in networks if network.id == name_or_id] or [
        network for network in networks if network.name == name_or_id
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(network.id for network in found)
        raise SeamError(Seam.CONTROL, "many-networks", f"several networks are called {name_or_id}; say which: {ids}")
    names = ", ".join(network.name for network in networks)
    raise SeamError(Seam.CONTROL, "no-network", f"there is no network {name_or_id}; there are: {names}")


def _with_network(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("network", help="name or id")
    return parser


def _shown(cloud: LocalClient, network: Network) -> Shown:
    subnets: list[Subnet] = [cloud.subnet(subnet_id) for subnet_id in network.subnet_ids]
    used = {
        fixed_ip.ip_address: port.name
        for port in cloud.ports()
        if port.network_id == network.id
        for fixed_ip in port.fixed_ips
    }
    lines = (f"{address}  {used[address]}" for address in sorted(used, key=ipaddress.ip_address))
    return (
        ("name", "id", "mtu", "subnet", "subnet_id", "cidr", "gateway_ip", "addresses"),
        (
            network.name,
            network.id,
            network.mtu,
            "\n".join(subnet.name for subnet in subnets),
            "\n".join(subnet.id for subnet in subnets),
            "\n".join(subnet.cidr for subnet in subnets),
            "\n".join(subnet.gateway_ip or "" for subnet in subnets),
            "\n".join(lines),
        ),
    )
