"""The VIP of a new load balancer: which network, subnet and address, and its port in the cloud.

The port is made when the load balancer is POSTed, so that the answer has the address and a mistake is told at once.
:meth:`Vips.of` gives it for the time of the accepting transaction, and takes it away again if that fails.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from tavia.api.errors import ApiError, validation_failure
from tavia.cloud.protocols import AddressRefused, Networking, NotFound, Port, Subnet
from tavia.store.database import OutcomeUnknown

_SOURCES = ("vip_port_id", "vip_network_id", "vip_subnet_id")
SUBNET_REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vip:
    """Where a load balancer is reached. ``ours`` tells whether its port goes with it."""

    vip_address: str
    vip_port_id: str
    vip_subnet_id: str
    vip_network_id: str
    vip_port_ours: bool


class Vips:
    """Makes VIPs by ``[networking]``'s rules, and knows which subnets exist."""

    def __init__(self, conf: cfg.ConfigOpts, networking: Networking, deployment_id: str) -> None:
        self._rules = conf.networking
        self._networking = networking
        self._deployment_id = deployment_id
        self._known_subnets: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, loadbalancer_id: str, body: dict[str, Any]) -> Iterator[Vip]:
        """The VIP that a POST asks for. Raises ApiError; removes a port it made when the block raises.

        But for OutcomeUnknown: the load balancer may be there. Otherwise housekeeping finds the port to be an orphan.
        """
        vip = self._make(loadbalancer_id, body)
        try:
            yield vip
        except OutcomeUnknown:
            raise
        except BaseException:
            if vip.vip_port_ours:
                self._networking.delete_port(vip.vip_port_id)
            raise

    def check_member_subnet(self, member: Mapping[str, Any]) -> None:
        """Refuse a member's subnet that does not exist; one that did a minute ago is taken to. Raises ApiError."""
        subnet_id = member.get("subnet_id")
        if subnet_id is None:
            return
        with self._lock:
            if time.monotonic() < self._known_subnets.get(subnet_id, 0.0):
                return
        self._subnet(subnet_id)
        with self._lock:
            self._known_subnets[subnet_id] = time.monotonic() + SUBNET_REMEMBERED_SECONDS

    def _make(self, loadbalancer_id: str, body: dict[str, Any]) -> Vip:
        source = next((name for name in _SOURCES if body.get(name)), None)
        if source is None:
            raise validation_failure("VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
        if not self._rules[f"allow_{source}"]:
            raise ApiError(400, f"The selected {source} is not allowed in this deployment: {body[source]}")
        if source == "vip_port_id":
            return self._of_port(body)
        subnets = self._subnets(body)
        self._check_network(subnets[0].network_id)
        return self._in_one_of(subnets, loadbalancer_id, body.get("vip_address"))

    def _of_port(self, body: dict[str, Any]) -> Vip:
        """Take over a port that exists."""
        try:
            port = self._networking.port(body["vip_port_id"])
        except NotFound:
            raise ApiError(400, f"Port {body['vip_port_id']} not found.") from None
        self._check_network(port.network_id)
        if body.get("vip_network_id", port.network_id) != port.network_id:
            raise validation_failure(f"VIP port {port.id} is not on network {body['vip_network_id']}.")
        for fixed in port.fixed_ips:
            if fixed.ip_address == body.get("vip_address", fixed.ip_address) and fixed.subnet_id == body.get(
                "vip_subnet_id", fixed.subnet_id
            ):
                return _vip(port, fixed.subnet_id, fixed.ip_address, ours=False)
        raise validation_failure(f"VIP port {port.id} has no such address: it has {_addresses(port)}.")

    def _subnets(self, body: dict[str, Any]) -> list[Subnet]:
        """The subnets that may hold the VIP, best first."""
        if not body.get("vip_network_id"):
            return [self._subnet(body["vip_subnet_id"])]
        try:
            network = self._networking.network(body["vip_network_id"])
        except NotFound:
            raise ApiError(400, f"Network {body['vip_network_id']} not found.") from None
        if wanted := body.get("vip_subnet_id"):
            subnet = self._subnet(wanted)
            if subnet.network_id != network.id:
                raise validation_failure(f"VIP subnet {wanted} is not on network {network.id}.")
            return [subnet]
        subnets = [self._subnet(subnet_id) for subnet_id in network.subnet_ids]
        if address := body.get("vip_address"):
            subnets = [s for s in subnets if ipaddress.ip_address(address) in ipaddress.ip_network(s.cidr)]
        if not subnets:
            raise validation_failure(f"Network {network.id} has no subnet for the VIP.")
        return sorted(subnets, key=lambda s: ipaddress.ip_network(s.cidr).version)

    def _subnet(self, subnet_id: str) -> Subnet:
        try:
            return self._networking.subnet(subnet_id)
        except NotFound:
            raise ApiError(400, f"Subnet {subnet_id} not found.") from None

    def _check_network(self, network_id: str) -> None:
        valid, denied = self._rules.valid_vip_networks, self._rules.denylist_vip_networks
        if network_id in denied or (valid and network_id not in valid):
            raise ApiError(400, f"The selected VIP network is not allowed in this deployment: {network_id}")

    def _in_one_of(self, subnets: list[Subnet], loadbalancer_id: str, address: str | None) -> Vip:
        """A new port in the first subnet that has room."""
        for subnet in subnets:
            try:
                port = self._networking.create_port(
                    name=f"octavia-lb-{loadbalancer_id}",
                    network_id=subnet.network_id,
                    fixed_ips=[(subnet.id, address)],
                    device_id=f"lb-{loadbalancer_id}",
                    tags=frozenset(
                        {f"tavia-deployment={self._deployment_id}", f"tavia-loadbalancer={loadbalancer_id}"}
                    ),
                )
            except AddressRefused as refusal:
                if refusal.code == "subnet-full" and subnet is not subnets[-1]:
                    continue
                raise _refused(refusal, subnet, address) from None
            return _vip(port, subnet.id, port.fixed_ips[0].ip_address, ours=True)
        raise AssertionError("there is at least one subnet")


def _vip(port: Port, subnet_id: str, address: str, *, ours: bool) -> Vip:
    return Vip(
        vip_address=address,
        vip_port_id=port.id,
        vip_subnet_id=subnet_id,
        vip_network_id=port.network_id,
        vip_port_ours=ours,
    )


def _addresses(port: Port) -> str:
    return ", ".join(f"{fixed.ip_address} on subnet {fixed.subnet_id}" for fixed in port.fixed_ips)


def _refused(refusal: AddressRefused, subnet: Subnet, address: str | None) -> ApiError:
    return {
        "address-in-use": ApiError(409, f"VIP address already in use: {address}"),
        "subnet-full": ApiError(409, f"Subnet {subnet.id} ({subnet.cidr}) has no free address for the VIP."),
        "address-outside-subnet": validation_failure(
            f"VIP address {address} is not an address of subnet {subnet.id} ({subnet.cidr})."
        ),
    }.get(refusal.code, ApiError(400, refusal.message))
