"""Just enough of Neutron's API for ``openstack loadbalancer`` where there is no Neutron: on one machine, in tests.

The client asks Neutron which subnet, network or port ``--vip-subnet-id`` and its like name, and has no way around it
(python-octaviaclient, ``osc/v2/utils.py``, ``get_resource_id``); Ansible wants to know the floating IPs of a VIP too.
``tavia up`` points its ``network_endpoint_override`` here. Read-only: ``tavia network`` makes and removes networks. The
application adds these routes for every cloud but OpenStack's. With Keystone a caller must be allowed to read load
balancers; ports are those of all projects, so they are for who may read load balancers of all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import falcon

from tavia.api.access import access_of
from tavia.api.rbac import READ, READ_GLOBAL
from tavia.cloud.protocols import Network, Networking, NotFound, Port, Subnet

PREFIX = "/network"

NONE_OF = {
    "floatingips": "floatingip",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "qos/policies": "policy",
    "routers": "router",
    "extensions": "extension",
}
"""What clients ask a Neutron about and no such cloud has: the collection's path, the word for one."""

Json = dict[str, Any]


def add_routes(app: falcon.App[Any, Any], networking: Networking) -> None:
    """Serve a cloud's networks, subnets and ports under :data:`PREFIX`."""

    def subnets() -> list[Json]:
        ids = (subnet_id for network in networking.networks() for subnet_id in network.subnet_ids)
        return [_subnet(networking.subnet(subnet_id)) for subnet_id in ids]

    def networks() -> list[Json]:
        return [_network(network) for network in networking.networks()]

    def ports() -> list[Json]:
        return [_port(port) for port in networking.ports(frozenset())]

    app.add_route(PREFIX, Versions())
    for path, collection in {
        "networks": Collection("network", READ, networks, _by_id(networking.network, _network)),
        "subnets": Collection("subnet", READ, subnets, _by_id(networking.subnet, _subnet)),
        "ports": Collection("port", READ_GLOBAL, ports, _by_id(networking.port, _port)),
        **{path: Collection(word, READ, list, lambda _: []) for path, word in NONE_OF.items()},
    }.items():
        app.add_route(f"{PREFIX}/v2.0/{path}", collection)
        app.add_route(f"{PREFIX}/v2.0/{path}/{{object_id}}", collection, suffix="one")


class Versions:
    """Where keystoneauth discovers the version that it then asks."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """One version, v2.0."""
        link = {"rel": "self", "href": f"{req.prefix}{PREFIX}/v2.0/"}
        resp.media = {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}


class Collection:
    """All objects of a kind; ``one`` finds those with an id, ``every`` lists what there is.

    ``rule`` is what a caller must satisfy.
    """

    def __init__(self, word: str, rule: str, every: Callable[[], list[Json]], one: Callable[[str], list[Json]]) -> None:
        self._word = word
        self._words = "policies" if word == "policy" else f"{word}s"
        self._rule = rule
        self._every = every
        self._one = one

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Filtered by any attribute that is a plain value, as Neutron does."""
        self._check(req)
        wanted = req.params.get("id")
        objects = self._one(wanted) if isinstance(wanted, str) else self._every()
        resp.media = {self._words: list(_matching(objects, req.params))}

    def on_get_one(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        """One object, by id; 404 in Neutron's form when there is none."""
        self._check(req)
        found = self._one(object_id)
        if found:
            resp.media = {self._word: found[0]}
            return
        name = self._word.replace("_", " ").title()
        message = f"{name} {object_id} could not be found."
        error = {"type": f"{name.replace(' ', '')}NotFound", "message": message, "detail": ""}
        resp.status, resp.media = falcon.HTTP_404, {"NeutronError": error}

    def _check(self, req: falcon.Request) -> None:
        access = access_of(req)
        access.check(access.project_id, self._rule)


def _by_id(find: Callable[[str], Any], show: Callable[[Any], Json]) -> Callable[[str], list[Json]]:
    def one(object_id: str) -> list[Json]:
        try:
            return [show(find(object_id))]
        except NotFound:
            return []

    return one


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
