"""The VIPs of a new load balancer: which network, subnets and addresses, and their port in the cloud.

The port is made when the load balancer is POSTed, so that the answer has the address and a mistake is told at once.
:meth:`Vips.of` gives it for the time of the accepting transaction, and takes it away again if that fails. What a
request names is looked up with the eyes of who asks (:meth:`Vips.seen_by`); the port is made with ours.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import falcon
from oslo_config import cfg

from tavia.api.access import access_of
from tavia.api.authentication import CHECKED
from tavia.api.errors import ApiError, validation_failure
from tavia.cloud.protocols import AddressRefused, Networking, NotFound, Port, PortSpec, Subnet
from tavia.model.seams import SeamError
from tavia.store.database import OutcomeUnknown

_SOURCES = ("vip_port_id", "vip_network_id", "vip_subnet_id")
SUBNET_REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vip:
    """Where a load balancer is reached. ``vip_port_ours`` tells whether its port goes with it.

    ``additional_vips`` are {subnet_id, ip_address} objects. ``vip_qos_policy_id`` is what the request says, else what a
    port that was brought along has.
    """

    vip_address: str
    vip_port_id: str
    vip_subnet_id: str
    vip_network_id: str
    vip_qos_policy_id: str | None
    vip_port_ours: bool
    additional_vips: list[dict[str, Any]]


@dataclass(frozen=True)
class Seen:
    """A cloud as someone sees it: a project, or we (None). ``connect`` is called when something is looked up."""

    connect: Callable[[], Networking]
    project_id: str | None = None

    @cached_property
    def networking(self) -> Networking:
        """Its networks."""
        return self.connect()


class Vips:
    """Makes VIPs by ``[networking]``'s rules, and knows which subnets exist."""

    def __init__(self, conf: cfg.ConfigOpts, networking: Networking, deployment_id: str) -> None:
        self._rules = conf.networking
        self._networking = networking
        self._deployment_id = deployment_id
        self._known_subnets: dict[tuple[str | None, str], float] = {}
        self._lock = threading.Lock()

    def seen_by(self, req: falcon.Request) -> Seen:
        """What of the cloud a request may name: what its caller sees, where Keystone told who that is."""
        auth = req.env.get(CHECKED)
        if auth is None or self._rules.allow_invisible_resource_usage:
            return Seen(lambda: self._networking)
        return Seen(lambda: self._networking.as_user(auth), access_of(req).project_id)

    @contextmanager
    def of(self, loadbalancer_id: str, body: dict[str, Any], seen: Seen) -> Iterator[Vip]:
        """The VIP that a POST asks for, for the project that it names. Raises ApiError.

        Removes a port it made when the block raises, but for OutcomeUnknown: the load balancer may be there. Otherwise
        housekeeping finds the port to be an orphan.
        """
        vip = self._make(loadbalancer_id, body, seen)
        try:
            yield vip
        except OutcomeUnknown:
            raise
        except BaseException:
            if vip.vip_port_ours:
                self._networking.delete_port(vip.vip_port_id)
            raise

    def check_member_subnet(self, member: Mapping[str, Any], seen: Seen) -> None:
        """Refuse a member's subnet that does not exist; one that did a minute ago is taken to. Raises ApiError."""
        subnet_id = member.get("subnet_id")
        if subnet_id is None:
            return
        key = (seen.project_id, subnet_id)
        with self._lock:
            if time.monotonic() < self._known_subnets.get(key, 0.0):
                return
        _subnet(seen, subnet_id)
        with self._lock:
            self._known_subnets[key] = time.monotonic() + SUBNET_REMEMBERED_SECONDS

    def check_qos_policy(self, body: Mapping[str, Any], seen: Seen) -> None:
        """Refuse a QoS policy that does not exist. Raises ApiError."""
        policy_id = body.get("vip_qos_policy_id")
        if policy_id is not None and not seen.networking.qos_policy_exists(policy_id):
            raise ApiError(400, f"QoS policy {policy_id} not found.")

    def _make(self, loadbalancer_id: str, body: dict[str, Any], seen: Seen) -> Vip:
        source = next((name for name in _SOURCES if body.get(name)), None)
        if source is None:
            raise validation_failure("VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
        if not self._rules[f"allow_{source}"]:
            raise ApiError(400, f"The selected {source} is not allowed in this deployment: {body[source]}")
        self.check_qos_policy(body, seen)
        if source == "vip_port_id":
            return self._of_port(body, seen)
        subnets = _subnets(body, seen)
        self._check_network(subnets[0].network_id)
        _check_additional(body, subnets, seen)
        return self._in_one_of(subnets, loadbalancer_id, body)

    def _of_port(self, body: dict[str, Any], seen: Seen) -> Vip:
        """Take over a port that exists, with all of the VIPs."""
        try:
            port = seen.networking.port(body["vip_port_id"])
        except NotFound:
            raise ApiError(400, f"Port {body['vip_port_id']} not found.") from None
        if port.device_id:
            raise validation_failure(f"Port {port.id} is already used by device {port.device_id}.")
        if not port.has_port_security:
            raise validation_failure("Port security must be enabled on the VIP port.")
        self._check_network(port.network_id)
        if body.get("vip_network_id", port.network_id) != port.network_id:
            raise validation_failure(f"VIP port {port.id} is not on network {body['vip_network_id']}.")
        subnet_id, address = _on_port(port, body.get("vip_subnet_id"), body.get("vip_address"))
        additional = [_on_port(port, vip["subnet_id"], vip.get("ip_address")) for vip in _additional(body)]
        _check_unique([subnet_id, *(each for each, _ in additional)])
        return _vip(port, body, subnet_id, address, additional, ours=False)

    def _check_network(self, network_id: str) -> None:
        valid, denied = self._rules.valid_vip_networks, self._rules.denylist_vip_networks
        if network_id in denied or (valid and network_id not in valid):
            raise ApiError(400, f"The selected VIP network is not allowed in this deployment: {network_id}")
        if not self._networking.network(network_id).has_port_security:
            raise validation_failure("Port security must be enabled on the VIP network.")

    def _in_one_of(self, subnets: Sequence[Subnet], loadbalancer_id: str, body: dict[str, Any]) -> Vip:
        """A new port, with the VIP in the first subnet that has room."""
        additional = [(vip["subnet_id"], vip.get("ip_address")) for vip in _additional(body)]
        address = body.get("vip_address")
        for subnet in subnets:
            try:
                port = self._networking.create_port(
                    PortSpec(
                        name=f"octavia-lb-{loadbalancer_id}",
                        network_id=subnet.network_id,
                        fixed_ips=[(subnet.id, address), *additional],
                        device_id=f"lb-{loadbalancer_id}",
                        tags=frozenset(
                            {f"tavia-deployment={self._deployment_id}", f"tavia-loadbalancer={loadbalancer_id}"}
                        ),
                        project_id=body.get("project_id"),
                        is_vip=True,
                    )
                )
            except AddressRefused as refusal:
                if refusal.code == "subnet-full" and subnet is not subnets[-1]:
                    continue
                raise _refused(refusal, subnet, address, is_only=not additional) from None
            except SeamError as refusal:
                if refusal.code == "port-quota":  # the tenant's own
                    raise ApiError(403, f"Quota has been met for resources: Port. {refusal.message}") from None
                if refusal.code in ("neutron-refused", "port-security-off"):
                    raise validation_failure(refusal.message) from None
                raise
            made = {fixed.subnet_id: fixed.ip_address for fixed in port.fixed_ips}
            others = [(each, made[each]) for each, _ in additional]
            return _vip(port, body, subnet.id, made[subnet.id], others, ours=True)
        raise AssertionError("there is at least one subnet")


def _subnets(body: dict[str, Any], seen: Seen) -> list[Subnet]:
    """The subnets that may hold the VIP, best first."""
    if not body.get("vip_network_id"):
        return [_subnet(seen, body["vip_subnet_id"])]
    try:
        network = seen.networking.network(body["vip_network_id"])
    except NotFound:
        raise ApiError(400, f"Network {body['vip_network_id']} not found.") from None
    if wanted := body.get("vip_subnet_id"):
        subnet = _subnet(seen, wanted, network.id)
        if subnet.network_id != network.id:
            raise validation_failure(f"VIP subnet {wanted} is not on network {network.id}.")
        return [subnet]
    taken = {vip["subnet_id"] for vip in _additional(body)}
    subnets = [_subnet(seen, subnet_id, network.id) for subnet_id in network.subnet_ids if subnet_id not in taken]
    if address := body.get("vip_address"):
        subnets = [s for s in subnets if ipaddress.ip_address(address) in ipaddress.ip_network(s.cidr)]
    if not subnets:
        raise validation_failure(f"Network {network.id} has no subnet for the VIP.")
    return sorted(subnets, key=lambda s: ipaddress.ip_network(s.cidr).version)


def _subnet(seen: Seen, subnet_id: str, network_id: str | None = None) -> Subnet:
    try:
        return seen.networking.subnet(subnet_id, network_id)
    except NotFound:
        raise ApiError(400, f"Subnet {subnet_id} not found.") from None


def _additional(body: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = body.get("additional_vips", [])
    return found


def _check_additional(body: dict[str, Any], subnets: Sequence[Subnet], seen: Seen) -> None:
    """All VIPs are in one network, each on a subnet of its own, which has the address. Raises ApiError."""
    ours = [subnet.id for subnet in subnets] if len(subnets) == 1 else []
    _check_unique([*ours, *(vip["subnet_id"] for vip in _additional(body))])
    network_id = subnets[0].network_id
    for vip in _additional(body):
        subnet, address = _subnet(seen, vip["subnet_id"], network_id), vip.get("ip_address")
        if subnet.network_id != network_id:
            raise validation_failure("All VIP subnets must belong to the same network.")
        if address and ipaddress.ip_address(address) not in ipaddress.ip_network(subnet.cidr):
            raise validation_failure(f"VIP address {address} is not an address of subnet {subnet.id} ({subnet.cidr}).")


def _check_unique(subnet_ids: Sequence[str]) -> None:
    if len(set(subnet_ids)) < len(subnet_ids):
        raise validation_failure("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.")


def _on_port(port: Port, subnet_id: str | None, address: str | None) -> tuple[str, str]:
    """The first of the port's addresses that is as wanted, with its subnet. Raises ApiError."""
    for fixed in port.fixed_ips:
        if address in (None, fixed.ip_address) and subnet_id in (None, fixed.subnet_id):
            return fixed.subnet_id, fixed.ip_address
    raise validation_failure(f"VIP port {port.id} has no such address: it has {_addresses(port)}.")


def _vip(
    port: Port,
    body: Mapping[str, Any],
    subnet_id: str,
    address: str,
    additional: Sequence[tuple[str, str]],
    *,
    ours: bool,
) -> Vip:
    return Vip(
        vip_address=address,
        vip_port_id=port.id,
        vip_subnet_id=subnet_id,
        vip_network_id=port.network_id,
        vip_qos_policy_id=body.get("vip_qos_policy_id", port.qos_policy_id),
        vip_port_ours=ours,
        additional_vips=[{"subnet_id": each, "ip_address": given} for each, given in additional],
    )


def _addresses(port: Port) -> str:
    return ", ".join(f"{fixed.ip_address} on subnet {fixed.subnet_id}" for fixed in port.fixed_ips)


def _refused(refusal: AddressRefused, subnet: Subnet, address: str | None, *, is_only: bool) -> ApiError:
    """``is_only``: there are no additional VIPs that it might be about."""
    if not is_only:
        return ApiError(400 if refusal.code == "address-outside-subnet" else 409, refusal.message)
    return {
        "address-in-use": ApiError(409, f"VIP address already in use: {address}"),
        "subnet-full": ApiError(409, f"Subnet {subnet.id} ({subnet.cidr}) has no free address for the VIP."),
        "address-outside-subnet": validation_failure(
            f"VIP address {address} is not an address of subnet {subnet.id} ({subnet.cidr})."
        ),
    }.get(refusal.code, ApiError(400, refusal.message))
