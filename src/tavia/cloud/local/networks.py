"""The daemon's networking: networks, subnets, ports and attached hosts, on disk and in the fabric.

A record is written before its effect; at start :meth:`Networks.restore` makes what the records say.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tavia.cloud.local import addresses, fabric, rules, wire
from tavia.cloud.local.instance import NETNS_DIR, Instance
from tavia.cloud.local.records import Records
from tavia.cloud.protocols import FixedIp, Network, NotFound, Port, PortSpec, Subnet
from tavia.model.seams import Seam, SeamError

LOG = logging.getLogger(__name__)

MGMT_NET, MGMT_CIDR, CONTROLLER_LEG, CONTROLLER_ADDRESS = "lb-mgmt-net", "198.18.0.0/18", "o-hm0", "198.18.0.2"
DEMO_NET, DEMO_CIDR = "demo-net", "198.19.0.0/24"
"""The networks that exist from the start, of the range for benchmarks between networks (RFC 2544)."""

_MTU = 1500
_HOST_TAG = "tavia-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A network with its subnets and the bridge that it is: one record, written at once."""

    network: Network
    subnets: tuple[Subnet, ...]
    bridge: str


def _segment(data: Mapping[str, Any]) -> Segment:
    return Segment(
        network=wire.network(data["network"]),
        subnets=tuple(wire.subnet(subnet) for subnet in data["subnets"]),
        bridge=data["bridge"],
    )


class Networks:
    """Safe for threads: one lock, held for milliseconds."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._segments = Records(instance.directory / "networks", _segment)
        self._ports = Records(instance.directory / "ports", wire.port)
        self._last_given: dict[str, str] = {}
        self._lock = threading.RLock()

    # -- start --------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Make what the records say: bridges, rules, the controller's leg, hosts. The first time: the defaults."""
        with self._lock:
            fabric.apply(rules.ruleset(self._ports))
            for segment in self._segments:
                _make(segment)
            self._make_defaults()
            for port in self.ports(frozenset({_HOST_TAG})):
                self._plug_host(port)

    def _make_defaults(self) -> None:
        # Networks that people made or deleted since stay as they are: the management network says that it was done.
        existing = {network.name: network for network in self.networks()}
        management = existing.get(MGMT_NET)
        if management is None:
            if DEMO_NET not in existing:
                self.create_network(name=DEMO_NET, cidr=DEMO_CIDR)
            management = self.create_network(name=MGMT_NET, cidr=MGMT_CIDR, gateway_ip="", bridge=MGMT_NET)
        if not any(port.device_id == self._instance.fabric for port in self._ports):
            leg = PortSpec(
                name=CONTROLLER_LEG,
                network_id=management.id,
                fixed_ips=[(management.subnet_ids[0], CONTROLLER_ADDRESS)],
                tags=frozenset({_HOST_TAG}),
                device_id=self._instance.fabric,
            )
            self.create_port(leg)

    # -- networks and subnets -----------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """By name."""
        return sorted((segment.network for segment in self._segments), key=lambda network: network.name)

    def network(self, network_id: str) -> Network:
        """Raises NotFound."""
        return self.segment(network_id).network

    def segment(self, network_id: str) -> Segment:
        """A network with its bridge. Raises NotFound."""
        segment = self._segments.get(network_id)
        if segment is None:
            raise NotFound("network", network_id)
        return segment

    def subnets(self) -> list[Subnet]:
        """By name."""
        found = [subnet for segment in self._segments for subnet in segment.subnets]
        return sorted(found, key=lambda subnet: subnet.name)

    def subnet(self, subnet_id: str) -> Subnet:
        """Raises NotFound."""
        found = next((subnet for subnet in self.subnets() if subnet.id == subnet_id), None)
        if found is None:
            raise NotFound("subnet", subnet_id)
        return found

    def create_network(
        self, *, name: str, cidr: str, subnet_name: str = "", gateway_ip: str | None = None, bridge: str = ""
    ) -> Network:
        """A network with one subnet; see :meth:`create_subnet` for ``cidr`` and ``gateway_ip``."""
        with self._lock:
            network_id = str(uuid.uuid4())
            subnet = self._new_subnet(network_id, cidr, subnet_name or _subnet_name(name), gateway_ip)
            network = Network(id=network_id, name=name, mtu=_MTU, subnet_ids=(subnet.id,))
            segment = Segment(network=network, subnets=(subnet,), bridge=bridge or f"brq{network_id[:11]}")
            self._put(segment)
            return network

    def create_subnet(self, network_id: str, *, cidr: str, name: str, gateway_ip: str | None = None) -> Subnet:
        """One more range for a network. ``gateway_ip``: None is the first address, "" none; the fabric answers there.

        Raises NotFound, SeamError cidr-invalid, cidr-overlaps, AddressRefused (the gateway).
        """
        with self._lock:
            old = self.segment(network_id)
            subnet = self._new_subnet(network_id, cidr, name, gateway_ip)
            network = dataclasses.replace(old.network, subnet_ids=(*old.network.subnet_ids, subnet.id))
            self._put(dataclasses.replace(old, network=network, subnets=(*old.subnets, subnet)))
            return subnet

    def _put(self, segment: Segment) -> None:
        self._segments.put(segment.network.id, segment)
        _make(segment)

    def _new_subnet(self, network_id: str, cidr: str, name: str, gateway_ip: str | None) -> Subnet:
        range_ = self._check_cidr(cidr)
        if gateway_ip is None:
            gateway_ip = str(range_.network_address + 1)
        elif gateway_ip:
            gateway_ip = addresses.check_inside(range_, gateway_ip)
        return Subnet(
            id=str(uuid.uuid4()), name=name, network_id=network_id, cidr=str(range_), gateway_ip=gateway_ip or None
        )

    def _check_cidr(self, cidr: str) -> addresses.IPNetwork:
        try:
            wanted = ipaddress.ip_network(cidr)
        except ValueError as error:
            raise SeamError(Seam.BOOT, "cidr-invalid", str(error), permanent=True) from None
        for subnet in self.subnets():
            existing = ipaddress.ip_network(subnet.cidr)
            if wanted.version == existing.version and wanted.overlaps(existing):
                message = f"{cidr} overlaps {subnet.cidr} of subnet {subnet.name}"
                raise SeamError(Seam.BOOT, "cidr-overlaps", message, permanent=True)
        return wanted

    def delete_network(self, network_id: str) -> None:
        """Remove it with its subnets; nothing when it is gone already. Raises SeamError network-in-use."""
        with self._lock:
            segment = self._segments.get(network_id)
            if segment is None:
                return
            users = [port for port in self._ports if port.network_id == network_id]
            if users:
                message = f"network {segment.network.name} still has {len(users)} ports, one is {users[0].name}"
                raise SeamError(Seam.BOOT, "network-in-use", message, permanent=True)
            fabric.delete_interface(segment.bridge)
            self._segments.remove(network_id)

    # -- ports --------------------------------------------------------------------------------------------------

    def ports(self, tags: frozenset[str]) -> list[Port]:
        """Those that carry all of the tags, by name."""
        found = (port for port in self._ports if tags <= port.tags)
        return sorted(found, key=lambda port: (port.name, port.id))

    def port(self, port_id: str) -> Port:
        """Raises NotFound."""
        port = self._ports.get(port_id)
        if port is None:
            raise NotFound("port", port_id)
        return port

    def create_port(self, spec: PortSpec) -> Port:
        """See the protocol. Without ``fixed_ips`` the port gets an address of the network's first subnet."""
        with self._lock:
            fixed_ips = spec.fixed_ips or [(self.network(spec.network_id).subnet_ids[0], None)]
            port_id = str(uuid.uuid4())
            port = Port(
                id=port_id,
                name=spec.name,
                network_id=spec.network_id,
                mac_address=addresses.mac_address(port_id),
                fixed_ips=tuple(self._fixed_ip(spec.network_id, *fixed_ip) for fixed_ip in fixed_ips),
                device_id=spec.device_id,
                allowed_addresses=_canonical(spec.allowed_addresses),
                tags=spec.tags,
            )
            self._ports.put(port.id, port)
            fabric.apply(rules.change(None, port))
            return port

    def _fixed_ip(self, network_id: str, subnet_id: str, wanted: str | None) -> FixedIp:
        subnet = self.subnet(subnet_id)
        if subnet.network_id != network_id:
            raise NotFound(f"network {network_id}'s subnet", subnet_id)
        taken = {ip.ip_address for port in self._ports for ip in port.fixed_ips if ip.subnet_id == subnet_id}
        address = addresses.choose(subnet, taken, wanted, self._last_given.get(subnet_id))
        if wanted is None:
            self._last_given[subnet_id] = address
        return FixedIp(subnet_id=subnet_id, ip_address=address)

    def set_allowed_addresses(self, port_id: str, allowed: frozenset[str]) -> None:
        """Holds for the next frame on. Raises NotFound."""
        with self._lock:
            old = self.port(port_id)
            new = dataclasses.replace(old, allowed_addresses=_canonical(allowed))
            self._ports.put(port_id, new)
            fabric.apply(rules.change(old, new))

    def delete_port(self, port_id: str) -> None:
        """Remove it, unplugged; nothing when it is gone already."""
        with self._lock:
            port = self._ports.get(port_id)
            if port is not None:
                fabric.delete_interface(rules.interface(port_id))
                fabric.apply(rules.change(port, None))
                self._ports.remove(port_id)

    def set_device(self, port_ids: Sequence[str], device_id: str) -> None:
        """Note whose the ports are; one that is gone meanwhile is nobody's."""
        with self._lock:
            for port_id in port_ids:
                if port := self._ports.get(port_id):
                    self._ports.put(port_id, dataclasses.replace(port, device_id=device_id))

    def plug(self, port: Port, inside: str, namespace: str) -> list[str]:
        """See :func:`tavia.cloud.local.fabric.plug`; a former interface of the port is removed first."""
        segment = self.segment(port.network_id)
        fabric.delete_interface(rules.interface(port.id))
        return fabric.plug(port, segment.bridge, segment.network.mtu, inside, namespace)

    def configure(self, inside: str, port: Port, *, gateway: bool) -> list[str]:
        """See :func:`tavia.cloud.local.fabric.configure`."""
        return fabric.configure(inside, port, self.subnets(), gateway=gateway)

    # -- hosts --------------------------------------------------------------------------------------------------

    def attach_host(self, name: str, network_id: str, address: str | None) -> str:
        """A named network namespace with an interface eth0 in a network, an address and a default route.

        Returns the namespace's name. A host that is there already stays as it is; SeamError host-exists when it is
        in another network or has another address than wanted.
        """
        namespace = self._instance.host_namespace(name)
        with self._lock:
            port = next((port for port in self._ports if port.device_id == namespace), None)
            if port is None:
                subnet_id = self.network(network_id).subnet_ids[0]
                spec = PortSpec(
                    name=name,
                    network_id=network_id,
                    fixed_ips=[(subnet_id, address)],
                    tags=frozenset({_HOST_TAG}),
                    device_id=namespace,
                )
                port = self.create_port(spec)
            elif port.network_id != network_id or address not in (None, port.fixed_ips[0].ip_address):
                message = f"host {name} is at {port.fixed_ips[0].ip_address} of network {port.network_id} already"
                raise SeamError(Seam.BOOT, "host-exists", message, permanent=True)
            self._plug_host(port)
        return namespace

    def detach_host(self, name: str) -> None:
        """Kill what runs in the host's namespace and remove it; nothing when it is gone already."""
        namespace = self._instance.host_namespace(name)
        with self._lock:
            fabric.delete_namespace(namespace)
            for port in self._ports:
                if port.device_id == namespace:
                    self.delete_port(port.id)

    def _plug_host(self, port: Port) -> None:
        """Plug a host, or the controller's leg, unless it is plugged."""
        namespace = port.device_id
        is_controller = namespace == self._instance.fabric
        if (NETNS_DIR / namespace).exists() and fabric.exists(rules.interface(port.id)):
            return
        fabric.make_namespace(namespace)
        inside = CONTROLLER_LEG if is_controller else "eth0"
        fabric.batch(self.plug(port, inside, namespace))
        within = ["link set lo up", *self.configure(inside, port, gateway=not is_controller)]
        fabric.run(["ip", "-n", namespace, "-batch", "-"], "".join(f"{line}\n" for line in within))


def _canonical(allowed: frozenset[str]) -> frozenset[str]:
    """Addresses in one spelling. Raises SeamError address-invalid."""
    try:
        return frozenset(str(ipaddress.ip_address(address)) for address in allowed)
    except ValueError as error:
        raise SeamError(Seam.BOOT, "address-invalid", str(error), permanent=True) from None


def _make(segment: Segment) -> None:
    fabric.make_bridge(segment.bridge, segment.network.mtu)
    for subnet in segment.subnets:
        fabric.serve_gateway(segment.bridge, subnet)


def _subnet_name(network: str) -> str:
    """``demo-net`` has ``demo-subnet``."""
    return f"{network.removesuffix('-net')}-subnet"
