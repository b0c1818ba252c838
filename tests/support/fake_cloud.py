"""Compute, networking and images in memory; every effect passes a switch that counts it and can kill the worker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tavia.cloud.protocols import (
    FixedIp,
    Network,
    NotFound,
    Port,
    PortSpec,
    SecurityGroup,
    SecurityRule,
    Server,
    ServerSpec,
    ServerStatus,
    Subnet,
)
from tavia.model.seams import Seam, SeamError

T = TypeVar("T")


class Killed(BaseException):
    """The worker died here: nothing of it runs on."""


@dataclass
class Switch:
    """Counts effects and transactions; kills before one of them."""

    kill_before: int | None = None
    armed: bool = False
    names: list[str] = field(default_factory=list)

    def arm(self, kill_before: int | None = None) -> None:
        """Count from here on; kill before the effect of this number."""
        self.armed, self.kill_before, self.names = True, kill_before, []

    def through(self, name: str, effect: Callable[[], T]) -> T:
        if self.armed:
            self.names.append(name)
            if len(self.names) - 1 == self.kill_before:
                raise Killed(name)
        return effect()


class FakeCompute:
    """Servers in memory; one that takes a port in use is refused, as Nova does."""

    def __init__(self, switch: Switch) -> None:
        self.found: dict[str, Server] = {}
        self.port_ids: dict[str, Sequence[str]] = {}
        self.boots: list[frozenset[str]] = []
        self.specs: list[ServerSpec] = []
        self.groups: dict[str, str] = {}
        self.boots_to = ServerStatus.ACTIVE
        self.not_listed: set[str] = set()
        self.on_silent_hosts: set[str] = set()
        self._switch = switch

    def boot(self, spec: ServerSpec) -> str:
        return self._switch.through("boot", lambda: self._boot(spec))

    def _boot(self, spec: ServerSpec) -> str:
        in_use = {port for ports in self.port_ids.values() for port in ports}
        assert not in_use & set(spec.port_ids), "a second server on one port"
        server_id = str(uuid.uuid4())
        self.found[server_id] = Server(
            id=server_id, name=spec.name, status=self.boots_to, created_at=len(self.boots), tags=spec.tags
        )
        self.port_ids[server_id] = spec.port_ids
        self.boots.append(spec.tags)
        self.specs.append(spec)
        return server_id

    def server(self, server_id: str) -> Server | None:
        return self.found.get(server_id)

    def servers(self, tags: frozenset[str]) -> list[Server]:
        listed = (s for s in self.found.values() if tags <= s.tags and s.id not in self.not_listed)
        return sorted(listed, key=lambda s: s.created_at)

    def power_off(self, server_id: str) -> None:
        def off() -> None:
            if server_id in self.on_silent_hosts:
                raise SeamError(Seam.BOOT, "server-not-off", "its host does not report")
            self.found[server_id] = replace(self.found[server_id], status=ServerStatus.OFF)

        self._switch.through("power-off", off)

    def power_on(self, server_id: str) -> None:
        self.found[server_id] = replace(self.found[server_id], status=ServerStatus.ACTIVE)

    def delete(self, server_id: str) -> None:
        self._switch.through("delete-server", lambda: self.lose(server_id))

    def lose(self, server_id: str) -> None:
        self.found.pop(server_id, None)
        self.port_ids.pop(server_id, None)

    def attach_port(self, server_id: str, port_id: str) -> None:
        def attach() -> None:
            if server_id not in self.found:
                raise NotFound("server", server_id)
            self.port_ids[server_id] = [*(p for p in self.port_ids[server_id] if p != port_id), port_id]

        self._switch.through("attach-port", attach)

    def detach_port(self, server_id: str, port_id: str) -> None:
        def detach() -> None:
            if server_id in self.found:
                self.port_ids[server_id] = [p for p in self.port_ids[server_id] if p != port_id]

        self._switch.through("detach-port", detach)

    def ensure_server_group(self, name: str, policy: str) -> str:
        return self._switch.through("ensure-server-group", lambda: self.groups.setdefault(name, policy) and name)

    def server_groups(self) -> list[str]:
        return list(self.groups)

    def delete_server_group(self, name: str) -> None:
        self._switch.through("delete-server-group", lambda: self.groups.pop(name, None))


class FakeNetworking:
    """One management network and one for VIPs; ports in memory."""

    def __init__(self, switch: Switch) -> None:
        self.found: dict[str, Port] = {}
        self.groups: dict[str, frozenset[SecurityRule]] = {}
        self.groups_of: dict[str, set[str]] = {}
        self.qos_of: dict[str, str | None] = {}
        self._switch = switch
        self._given = 10

    def networks(self) -> list[Network]:
        return [self.network("mgmt-net"), self.network("vip-net")]

    def network(self, network_id: str) -> Network:
        name = "lb-mgmt-net" if network_id == "mgmt-net" else "demo-net"
        return Network(id=network_id, name=name, mtu=1500, subnet_ids=(network_id.replace("net", "subnet"),))

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        return Subnet(id=subnet_id, name=subnet_id, network_id=subnet_id.replace("subnet", "net"), cidr="198.19.0.0/24")

    def port(self, port_id: str) -> Port:
        if port_id not in self.found:
            raise NotFound("port", port_id)
        return self.found[port_id]

    def ports(self, tags: frozenset[str]) -> list[Port]:
        return [p for p in self.found.values() if tags <= p.tags]

    def create_port(self, spec: PortSpec) -> Port:
        def create() -> Port:
            self._given += 1
            port = Port(
                id=str(uuid.uuid4()),
                name=spec.name,
                network_id=spec.network_id,
                mac_address=f"02:00:00:00:00:{self._given:02x}",
                fixed_ips=tuple(
                    FixedIp(subnet_id=subnet_id, ip_address=wanted or f"198.19.0.{self._given}")
                    for subnet_id, wanted in spec.fixed_ips
                ),
                device_id=spec.device_id,
                allowed_addresses=spec.allowed_addresses,
                tags=spec.tags,
            )
            self.found[port.id] = port
            self.groups_of[port.id] = set(spec.security_group_ids)
            return port

        return self._switch.through("create-port", create)

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        def allow() -> None:
            self.found[port_id] = replace(self.found[port_id], allowed_addresses=addresses)

        self._switch.through("allow-addresses", allow)

    def delete_port(self, port_id: str) -> None:
        self._switch.through("delete-port", lambda: self.lose(port_id))

    def lose(self, port_id: str) -> None:
        self.found.pop(port_id, None)
        self.groups_of.pop(port_id, None)

    def ensure_security_group(self, name: str, tags: frozenset[str], rules: frozenset[SecurityRule]) -> str:
        def ensure() -> str:
            self.groups[name] = rules
            return name

        return self._switch.through("ensure-security-group", ensure)

    def security_groups(self, tags: frozenset[str]) -> list[SecurityGroup]:
        return [SecurityGroup(name=name, tags=tags) for name in self.groups]

    def delete_security_group(self, name: str, tags: frozenset[str], port_id: str | None = None) -> None:
        def delete() -> None:
            self.groups_of.get(port_id or "", set()).discard(name)
            assert not any(name in groups for groups in self.groups_of.values()), "a port has the group still"
            self.groups.pop(name, None)

        self._switch.through("delete-security-group", delete)

    def add_security_group(self, port_id: str, group_id: str) -> None:
        self._switch.through("add-security-group", lambda: self.groups_of[self.port(port_id).id].add(group_id))

    def qos_policy_exists(self, policy_id: str) -> bool:
        return True

    def set_qos_policy(self, port_id: str, policy_id: str | None) -> None:
        self._switch.through("set-qos-policy", lambda: self.qos_of.update({self.port(port_id).id: policy_id}))

    def as_user(self, auth: object) -> FakeNetworking:
        return self


class FakeImages:
    def image_id(self, tag: str | None, owner_id: str | None) -> str | None:
        return tag and f"newest-{tag}"
