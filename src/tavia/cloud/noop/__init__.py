"""A cloud that does nothing, at once: for tests of the API and of the control plane, as Octavia's noop drivers.

It knows every network, subnet, port and server that it is asked for, with answers that depend on the id alone, so
processes that share a database agree about them without sharing anything else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import time
import uuid
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

from tavia.cloud.protocols import (
    FixedIp,
    Network,
    Port,
    PortSpec,
    SecurityGroup,
    SecurityRule,
    Server,
    ServerSpec,
    ServerStatus,
    Subnet,
)

_RANGE = ipaddress.ip_network("198.18.0.0/15")
"""Every subnet has this range (RFC 2544), so a wanted address inside is as good as any."""
_NAMESPACE = uuid.UUID("5f8a9c56-93a5-4f0f-8d2c-0c8b3f0d6a11")


T = TypeVar("T", Server, Port)


class _Tagged(Generic[T]):
    """What this process made, by id and by tag. All threads of a worker share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: dict[str, T] = {}
        self._of_tag: dict[str, dict[str, T]] = {}

    def get(self, object_id: str) -> T | None:
        return self._all.get(object_id)

    def put(self, it: T) -> None:
        """New, or in the place of the one before, which had the same tags."""
        with self._lock:
            self._all[it.id] = it
            for tag in it.tags:
                self._of_tag.setdefault(tag, {})[it.id] = it

    def pop(self, object_id: str) -> None:
        with self._lock:
            it = self._all.pop(object_id, None)
            for tag in it.tags if it else ():
                del self._of_tag[tag][object_id]
                if not self._of_tag[tag]:
                    del self._of_tag[tag]

    def having(self, tags: frozenset[str]) -> list[T]:
        """Those with all these tags. It costs as much as there are with the rarest of them."""
        with self._lock:
            those = [self._of_tag.get(tag, {}) for tag in tags]
            candidates = list(min(those, key=len, default=self._all).values())
        return [it for it in candidates if tags <= it.tags]


class NoopCloud:
    """Implements Compute, Networking and Images of :mod:`tavia.cloud.protocols`."""

    def __init__(self) -> None:
        self._servers: _Tagged[Server] = _Tagged()
        self._ports: _Tagged[Port] = _Tagged()
        self._deleted: set[str] = set()

    # -- Compute ------------------------------------------------------------------------------------------------

    def boot(self, spec: ServerSpec) -> str:
        """A server that is ACTIVE from its first moment."""
        server_id = str(uuid.uuid4())
        self._servers.put(
            Server(id=server_id, name=spec.name, status=ServerStatus.ACTIVE, created_at=time.time(), tags=spec.tags)
        )
        return server_id

    def server(self, server_id: str) -> Server | None:
        """Any server but a deleted one."""
        if server_id in self._deleted:
            return None
        made_up = Server(id=server_id, name=server_id, status=ServerStatus.ACTIVE, created_at=0.0)
        return self._servers.get(server_id) or made_up

    def servers(self, tags: frozenset[str]) -> list[Server]:
        """Those booted by this process."""
        return self._servers.having(tags)

    def power_off(self, server_id: str) -> None:
        """It shows OFF."""
        self._set_status(server_id, ServerStatus.OFF)

    def power_on(self, server_id: str) -> None:
        """It shows ACTIVE."""
        self._set_status(server_id, ServerStatus.ACTIVE)

    def _set_status(self, server_id: str, status: ServerStatus) -> None:
        if server := self.server(server_id):
            self._servers.put(dataclasses.replace(server, status=status))

    def delete(self, server_id: str) -> None:
        """It is known no more."""
        self._servers.pop(server_id)
        self._deleted.add(server_id)

    def attach_port(self, server_id: str, port_id: str) -> None:
        """It takes what it is given."""

    def detach_port(self, server_id: str, port_id: str) -> None:
        """It lets go."""

    def ensure_server_group(self, name: str, policy: str) -> str:
        """Any group; its id follows from the name."""
        del policy
        return _derived(f"server group {name}")

    def server_groups(self) -> list[str]:
        """There are none."""
        return []

    def delete_server_group(self, name: str) -> None:
        """Nothing is there to be removed."""

    # -- Networking ---------------------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """One, that amphorae are managed through."""
        return [dataclasses.replace(self.network(_derived("lb-mgmt-net")), name="lb-mgmt-net")]

    def network(self, network_id: str) -> Network:
        """Any network; it has one subnet."""
        return Network(id=network_id, name=network_id, mtu=1500, subnet_ids=(_derived(network_id),))

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        """Any subnet, in the network that it is named together with, else in one of its own."""
        network_id = network_id or _derived(subnet_id)
        gateway = str(_RANGE.network_address + 1)
        return Subnet(id=subnet_id, name=subnet_id, network_id=network_id, cidr=str(_RANGE), gateway_ip=gateway)

    def port(self, port_id: str) -> Port:
        """Any port; one that this process did not make is in the network and subnet that its id leads to."""
        if made := self._ports.get(port_id):
            return made
        subnet = self.subnet(_derived(port_id))
        return _port(port_id, port_id, subnet.network_id, [(subnet.id, None)])

    def ports(self, tags: frozenset[str]) -> list[Port]:
        """Those made by this process."""
        return self._ports.having(tags)

    def create_port(self, spec: PortSpec) -> Port:
        """A port with the addresses asked for, or ones that follow from its id."""
        fixed_ips = spec.fixed_ips or [(self.network(spec.network_id).subnet_ids[0], None)]
        port = dataclasses.replace(
            _port(str(uuid.uuid4()), spec.name, spec.network_id, fixed_ips),
            device_id=spec.device_id,
            allowed_addresses=spec.allowed_addresses,
            tags=spec.tags,
        )
        self._ports.put(port)
        return port

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        """It is remembered."""
        self._ports.put(dataclasses.replace(self.port(port_id), allowed_addresses=addresses))

    def delete_port(self, port_id: str) -> None:
        """It is forgotten."""
        self._ports.pop(port_id)

    def ensure_security_group(self, name: str, tags: frozenset[str], rules: frozenset[SecurityRule]) -> str:
        """Any group; its id follows from the name."""
        del tags, rules
        return _derived(f"security group {name}")

    def security_groups(self, tags: frozenset[str]) -> list[SecurityGroup]:
        """There are none."""
        del tags
        return []

    def delete_security_group(self, name: str, tags: frozenset[str], port_id: str | None = None) -> None:
        """Nothing is there to be removed."""

    def add_security_group(self, port_id: str, group_id: str) -> None:
        """Nothing is filtered."""

    def qos_policy_exists(self, policy_id: str) -> bool:
        """Any policy."""
        del policy_id
        return True

    def set_qos_policy(self, port_id: str, policy_id: str | None) -> None:
        """Nothing is shaped."""

    def as_user(self, auth: object) -> NoopCloud:
        """Everybody sees all."""
        del auth
        return self

    # -- Images -------------------------------------------------------------------------------------------------

    def image_id(self, tag: str | None, owner_id: str | None) -> str | None:
        """Always the same one."""
        return _derived(f"image {tag} {owner_id}")


def _derived(seed: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, seed))


def _port(port_id: str, name: str, network_id: str, wanted: Sequence[tuple[str, str | None]]) -> Port:
    digest = hashlib.sha256(port_id.encode()).digest()
    address = str(_RANGE[2 + int.from_bytes(digest[:4], "big") % (_RANGE.num_addresses - 3)])
    return Port(
        id=port_id,
        name=name,
        network_id=network_id,
        mac_address=":".join(f"{octet:02x}" for octet in (0x02, *digest[:5])),
        fixed_ips=tuple(FixedIp(subnet_id=subnet_id, ip_address=given or address) for subnet_id, given in wanted),
    )
