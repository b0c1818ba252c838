"""Networks, subnets and ports of a cloud that has no Neutron, read-only and in Neutron's words.

``openstack loadbalancer create --vip-subnet-id`` asks Neutron for the subnet before it asks us. Where amphorae live
on this machine there is none, so clouds.yaml leads that question here (``network_endpoint_override``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import falcon

from tavia.cloud.protocols import Network, Networking, NotFound, Port, Subnet

Show = Callable[[Any], dict[str, Any]]


class NetworkVersions:
    """/network"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What Neutron says when it is asked for its versions."""
        href = f"{req.prefix}/network/v2.0/"
        version = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]}
        resp.media = {"versions": [version]}


class NetworkObjects:
    """A collection of Neutron's. Filters by id and by name are what clients look things up with."""

    def __init__(
        self, word: str, find: Callable[[str], Any], find_all: Callable[[], Iterator[Any]], show: Show
    ) -> None:
        self._word = word
        self._find = find
        self._find_all = find_all
        self._show = show

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All of them, or the ones with this id or name."""
        asked = dict(parse_qsl(req.query_string))
        found = self._named_by_id(asked["id"]) if "id" in asked else [self._show(one) for one in self._find_all()]
        names = {"name", "network_id"} & asked.keys()
        resp.media = {f"{self._word}s": [one for one in found if all(one.get(n) == asked[n] for n in names)]}

    def on_get_one(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        """One of them."""
        found = self._named_by_id(object_id)
        if not found:
            raise falcon.HTTPNotFound(description=f"There is no {self._word} {object_id}.")
        resp.media = {self._word: found[0]}

    def _named_by_id(self, object_id: str) -> list[dict[str, Any]]:
        try:
            return [self._show(self._find(object_id))]
        except NotFound:
            return []


def collections(networking: Networking) -> dict[str, NetworkObjects]:
    """The collections by their URL's last word."""

    def subnets() -> Iterator[Subnet]:
        return (networking.subnet(subnet_id) for network in networking.networks() for subnet_id in network.subnet_ids)

    return {
        "networks": NetworkObjects("network", networking.network, lambda: iter(networking.networks()), _network),
        "subnets": NetworkObjects("subnet", networking.subnet, subnets, _subnet),
        "ports": NetworkObjects("port", networking.port, lambda: iter(networking.ports(frozenset())), _port),
    }


def _network(network: Network) -> dict[str, Any]:
    subnets = list(network.subnet_ids)
    return {"id": network.id, "name": network.name, "mtu": network.mtu, "status": "ACTIVE", "subnets": subnets}


def _subnet(subnet: Subnet) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "name": subnet.name,
        "network_id": subnet.network_id,
        "cidr": subnet.cidr,
        "ip_version": ipaddress.ip_network(subnet.cidr).version,
        "gateway_ip": subnet.gateway_ip,
        "host_routes": [{"destination": to, "nexthop": via} for to, via in subnet.host_routes],
    }


def _port(port: Port) -> dict[str, Any]:
    return {
        "id": port.id,
        "name": port.name,
        "network_id": port.network_id,
        "mac_address": port.mac_address,
        "device_id": port.device_id,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in port.fixed_ips],
        "tags": sorted(port.tags),
    }
