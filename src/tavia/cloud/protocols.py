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
    """A layer-2 network. ``mtu`` in bytes."""

    id: str
    name: str
    mtu: int
    subnet_ids: tuple[str, ...]


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
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server as compute sees it. ``created_at`` is seconds since the epoch, ``fault`` the cloud's own words."""

    id: str
    name: str
    status: ServerStatus
    created_at: float
    tags: frozenset[str] = frozenset()
    fault: str | None = None
    zone: str | None = None
    image_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What to boot. The first port is the management one. ``files`` (path -> content) reach it by config drive."""

    name: str
    image_id: str | None
    flavor: str | None
    port_ids: Sequence[str]
    files: Mapping[str, bytes]
    tags: frozenset[str]
    availability_zone: str | None = None


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


class Networking(Protocol):
    """Networks, subnets and ports."""

    def networks(self) -> list[Network]:
        """All networks that we can see."""
        ...

    def network(self, network_id: str) -> Network:
        """One network. Raises NotFound."""
        ...

    def subnet(self, subnet_id: str) -> Subnet:
        """One subnet. Raises NotFound."""
        ...

    def port(self, port_id: str) -> Port:
        """One port. Raises NotFound."""
        ...

    def ports(self, tags: frozenset[str]) -> list[Port]:
        """All ports that carry these tags."""
        ...

    def create_port(
        self,
        *,
        name: str,
        network_id: str,
        fixed_ips: Sequence[tuple[str, str | None]],
        tags: frozenset[str],
        device_id: str = "",
        allowed_addresses: frozenset[str] = frozenset(),
    ) -> Port:
        """Make a port; ``fixed_ips`` are (subnet id, wanted address or None). Raises NotFound, AddressRefused."""
        ...

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        """Replace the allowed address pairs of a port. Raises NotFound."""
        ...

    def delete_port(self, port_id: str) -> None:
        """Remove it; nothing when it is gone already."""
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
