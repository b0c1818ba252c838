"""What Tavia asks of a cloud. ``local``, ``openstack`` and ``noop`` answer it; the worker and the API call it.

Every call may raise :class:`~tavia.model.seams.SeamError`; the errors below are the ones that callers tell apart.
Ids are the cloud's own. ``tags`` are strings such as ``tavia-deployment=<id>`` and ``tavia-amphora=<id>``; a search
by tags finds what carries all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tavia.model.seams import Seam, SeamError

PORT_GONE = "port-gone"
"""The code of a boot that was refused because one of its ports does not exist."""


class NotFound(SeamError):
    """The cloud knows no such object."""

    def __init__(self, what: str, object_id: str) -> None:
        super().__init__(Seam.BOOT, "not-found", f"{what} {object_id} does not exist", permanent=True)
        self.what = what
        self.object_id = object_id


class AddressRefused(SeamError):
    """A fixed address cannot be given: ``code`` is address-in-use, address-outside-subnet or subnet-full."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(Seam.BOOT, code, message, permanent=True)


class ServerStatus(StrEnum):
    """What compute says of a server; UNKNOWN proves nothing."""

    BUILDING = "BUILDING"
    ACTIVE = "ACTIVE"
    OFF = "OFF"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """An address range of a network. ``host_routes`` are (destination, next hop) pairs."""

    id: str
    name: str
    network_id: str
    cidr: str
    gateway_ip: str | None = None
    host_routes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A layer-2 network. ``mtu`` in bytes. Without port security none of its ports can have a VIP that moves."""

    id: str
    name: str
    mtu: int
    subnet_ids: tuple[str, ...]
    has_port_security: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIp:
    """An address of a port."""

    subnet_id: str
    ip_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a network. Beside its own addresses it may send from ``allowed_addresses`` (the VIP)."""

    id: str
    name: str
    network_id: str
    mac_address: str
    fixed_ips: tuple[FixedIp, ...]
    device_id: str = ""
    allowed_addresses: frozenset[str] = frozenset()
    qos_policy_id: str | None = None
    has_port_security: bool = True
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """The port to make. ``fixed_ips`` are (subnet id, address, None for any); none: the network chooses.

    Without ``security_group_ids`` it has the network's default. ``project_id`` owns it (None: we do). ``is_vip``: it
    only holds an address, no server is ever plugged into it.
    """

    name: str
    network_id: str
    fixed_ips: Sequence[tuple[str, str | None]]
    tags: frozenset[str]
    device_id: str = ""
    allowed_addresses: frozenset[str] = frozenset()
    security_group_ids: Sequence[str] = ()
    project_id: str | None = None
    is_vip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityRule:
    """Traffic that a security group lets in, to one port of ``protocol`` (all of it where the protocol has no ports).

    ``protocol`` is tcp, udp, sctp or vrrp. It may come from ``remote_cidr`` (None: from anywhere), or only from ports
    that are in the same group where ``from_peers`` is set.
    """

    protocol: str
    port: int | None = None
    remote_cidr: str | None = None
    from_peers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """A security group, without what it lets in."""

    name: str
    tags: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """The disk of a server that boots from a volume. ``size`` is GiB."""

    size: int
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server as compute sees it. ``created_at`` is seconds since the epoch, ``fault`` the cloud's own words.

    ``fault_code``: the stable code of what they mean, of a server in ERROR (None: the cloud tells no causes apart).
    ``host``: the compute host that it is on, None where we are not told.

    ``busy``: compute works on it (a task is in progress), or an operator took its host out of service, so its status
    proves little. Of a host that is down the status is UNKNOWN: nobody works there, and nothing is proven.
    """

    id: str
    name: str
    status: ServerStatus
    created_at: float
    tags: frozenset[str] = frozenset()
    fault: str | None = None
    fault_code: str | None = None
    zone: str | None = None
    host: str | None = None
    image_id: str | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What to boot. The first port is the management one. ``files`` (path -> content) reach it by config drive.

    ``volume`` None: its disk is the one that the flavor gives. ``key_name`` is a key pair of compute's.
    """

    name: str
    image_id: str | None
    flavor: str | None
    port_ids: Sequence[str]
    files: Mapping[str, bytes]
    tags: frozenset[str]
    availability_zone: str | None = None
    key_name: str | None = None
    server_group_id: str | None = None
    volume: Volume | None = None


class Compute(Protocol):
    """Servers. ``boot`` returns as soon as the cloud has accepted it; the server becomes ACTIVE or ERROR later."""

    def boot(self, spec: ServerSpec) -> str:
        """Ask for a server; returns its id. A port already in use by another server is refused."""
        ...

    def server(self, server_id: str) -> Server | None:
        """The server, or None when compute is sure that there is none."""
        ...

    def servers(self, tags: frozenset[str]) -> list[Server]:
        """All servers that carry these tags, oldest first."""
        ...

    def power_off(self, server_id: str) -> None:
        """Stop it hard; nothing when it is off or gone already. On return it runs no more."""
        ...

    def power_on(self, server_id: str) -> None:
        """Start it again from its disk."""
        ...

    def delete(self, server_id: str) -> None:
        """Remove it; nothing when it is gone already. Its ports stay."""
        ...

    def attach_port(self, server_id: str, port_id: str) -> None:
        """Plug a port into a server that runs; nothing when it is plugged already. Raises NotFound."""
        ...

    def detach_port(self, server_id: str, port_id: str) -> None:
        """Unplug a port, which stays; nothing when it is not plugged or the server is gone."""
        ...

    def ensure_server_group(self, name: str, policy: str) -> str:
        """The id of the group with this name, made with ``policy`` (anti-affinity, soft-anti-affinity) if need be."""
        ...

    def server_groups(self) -> list[str]:
        """The names of all of our project, whoever made them: they have no tags."""
        ...

    def delete_server_group(self, name: str) -> None:
        """Remove it; nothing when it is gone already."""
        ...


class Networking(Protocol):
    """Networks, subnets and ports."""

    def networks(self) -> list[Network]:
        """All networks that we can see."""
        ...

    def network(self, network_id: str) -> Network:
        """One network. Raises NotFound."""
        ...

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        """One subnet. ``network_id``: where the caller takes it to be, if a cloud has no idea. Raises NotFound."""
        ...

    def port(self, port_id: str) -> Port:
        """One port. Raises NotFound."""
        ...

    def ports(self, tags: frozenset[str]) -> list[Port]:
        """All ports that carry these tags."""
        ...

    def create_port(self, spec: PortSpec) -> Port:
        """Make a port. Raises NotFound, AddressRefused."""
        ...

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        """Replace the allowed address pairs of a port. Raises NotFound."""
        ...

    def delete_port(self, port_id: str) -> None:
        """Remove it; nothing when it is gone already."""
        ...

    def ensure_security_group(self, name: str, tags: frozenset[str], rules: frozenset[SecurityRule]) -> str:
        """The id of the group that has this name and these tags, made if need be, letting in just what rules say."""
        ...

    def security_groups(self, tags: frozenset[str]) -> list[SecurityGroup]:
        """All of our project that carry these tags."""
        ...

    def delete_security_group(self, name: str, tags: frozenset[str], port_id: str | None = None) -> None:
        """Take it from the port, and remove it; nothing when it is gone already. No other port may have it any more."""
        ...

    def add_security_group(self, port_id: str, group_id: str) -> None:
        """Give a port one more group; nothing when it has it. Raises NotFound."""
        ...

    def qos_policy_exists(self, policy_id: str) -> bool:
        """Whether there is such a QoS policy."""
        ...

    def set_qos_policy(self, port_id: str, policy_id: str | None) -> None:
        """Give a port a QoS policy, or none. Raises NotFound (the port, the policy)."""
        ...

    def as_user(self, auth: object) -> Networking:
        """The same cloud as the caller of the API sees it; ``auth`` is the keystoneauth plugin of its token."""
        ...


class Images(Protocol):
    """Images that amphorae boot from."""

    def image_id(self, tag: str | None, owner_id: str | None) -> str | None:
        """The newest image with the tag. Raises SeamError (boot, no-image) when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud's three faces."""

    compute: Compute
    networking: Networking
    images: Images
