"""Just enough of Neutron's API for ``openstack loadbalancer`` on one machine, where there is no Neutron.

The client asks Neutron which subnet, network or port ``--vip-subnet-id`` and its like name, and has no way around it
(python-octaviaclient, ``osc/v2/utils.py``, ``get_resource_id``). ``tavia up`` points its ``network_endpoint_override``
here. Read-only: ``tavia network`` makes and removes networks. The service adds these routes for the local cloud only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import falcon

from tavia.cloud.local.client import LocalClient
from tavia.cloud.protocols import Network, Port, Subnet

PREFIX = "/network"

Json = dict[str, Any]


def add_routes(app: falcon.App[Any, Any], cloud: LocalClient) -> None:
    """Serve ``cloud``'s networks, subnets and ports under :data:`PREFIX`."""
    app.add_route(PREFIX, Versions())
    lists: Mapping[str, Callable[[], list[Json]]] = {
        "networks": lambda: [_network(network) for network in cloud.networks()],
        "subnets": lambda: [_subnet(subnet) for subnet in cloud.subnets()],
        "ports": lambda: [_port(port) for port in cloud.ports()],
    }
    for collection, objects in lists.items():
        app.add_route(f"{PREFIX}/v2.0/{collection}", Collection(collection, objects))
        app.add_route(f"{PREFIX}/v2.0/{collection}/{{object_id}}", Item(collection, objects))


class Versions:
    """Where keystoneauth discovers the version that it then asks."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """One version, v2.0."""
        link = {"rel": "self", "href": f"{req.prefix}{PREFIX}/v2.0/"}
        resp.media = {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}


class Collection:
    """All objects of a kind that have what the query asks for."""

    def __init__(self, name: str, objects: Callable[[], list[Json]]) -> None:
        self._name = name
        self._objects = objects

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Filtered by any attribute that is a plain value, as Neutron does."""
        resp.media = {self._name: list(_matching(self._objects(), req.params))}


class Item:
    """One object, by id."""

    def __init__(self, collection: str, objects: Callable[[], list[Json]]) -> None:
        self._word = collection.removesuffix("s")
        self._objects = objects

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        """404 when there is none."""
        for found in _matching(self._objects(), {"id": object_id}):
            resp.media = {self._word: found}
            return
        raise falcon.HTTPNotFound(title=f"{self._word} {object_id} could not be found")


def _matching(objects: Iterable[Json], query: Mapping[str, str | list[str]]) -> Iterable[Json]:
    for found in objects:
        if all(
            str(found[key]) in ([value] if isinstance(value, str) else value)
            for key, value in query.items()
            if key in found
        ):
            yield found


def _network(network: Network) -> Json:
    return {
        "id": network.id,
        "name": network.name,
        "mtu": network.mtu,
        "subnets": list(network.subnet_ids),
        "admin_state_up": True,
        "status": "ACTIVE",
    }


def _subnet(subnet: Subnet) -> Json:
    return {
        "id": subnet.id,
        "name": subnet.name,
        "network_id": subnet.network_id,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip,
        "ip_version": ipaddress.ip_network(subnet.cidr).version,
        "enable_dhcp": True,
        "host_routes": [{"destination": to, "nexthop": via} for to, via in subnet.host_routes],
    }


def _port(port: Port) -> Json:
    return {
        "id": port.id,
        "name": port.name,
        "network_id": port.network_id,
        "mac_address": port.mac_address,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in port.fixed_ips],
        "device_id": port.device_id,
        "allowed_address_pairs": [{"ip_address": address} for address in sorted(port.allowed_addresses)],
        "admin_state_up": True,
        "status": "ACTIVE" if port.device_id else "DOWN",
    }
