"""What is found out before anything is judged. A field may be Unknown where asking may fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from oslo_config import cfg

from tavia.doctor.findings import Unknown

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface

NOT_ASKED = Unknown("it was not asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A configuration file, or one with certificates, a private key, or both. ``key`` is its key's public half.

    ``problem``: why it cannot be used, in words. ``hidden_from``: the user that the services run as, where that cannot
    read it.
    """

    mode: int = 0o600
    certificates: Sequence[x509.Certificate] = ()
    key: PublicKeyTypes | None = None
    problem: str | None = None
    hidden_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of this host."""

    name: str
    up: bool
    addresses: Sequence[InterfaceAddress]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSeen:
    """``clock``: seconds by which the database's clock is ahead of this host's. Revisions are Alembic's."""

    revision: str | None
    needed: str
    clock: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What Keystone's token says, and for which interfaces and regions the catalog has a load-balancer endpoint."""

    user: str
    project_id: str
    project: str
    roles: Sequence[str]
    endpoints: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image with the tag, in whatever status. ``min_disk`` in GiB, ``min_ram`` in MiB, ``virtual_size`` in bytes."""

    id: str
    name: str
    status: str
    owner: str
    created: datetime
    min_disk: int
    min_ram: int
    virtual_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """Disk in GiB (0: the image's own size), RAM in MiB."""

    name: str
    disk: int
    ram: int
    vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """An address range of a management network."""

    id: str
    cidr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that amphorae boot on. ``mtu`` in bytes."""

    id: str
    name: str
    mtu: int
    subnets: Sequence[Subnet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a security group lets in. ``protocol``, ports and ``remote`` are None for any of them."""

    family: int
    protocol: str | None
    first_port: int | None
    last_port: int | None
    remote: str | None = None
    remote_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A security group: what it lets in."""

    id: str
    name: str
    rules: Sequence[Rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegPort:
    """Neutron's port with an address of this host. ``groups`` None: port security is off, all comes in."""

    id: str
    address: str
    status: str
    groups: Sequence[Group] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A quota of the project that amphorae are in. ``limit`` -1: none."""

    limit: int
    used: int

    @property
    def left(self) -> float:
        """How much more there may be."""
        return float("inf") if self.limit < 0 else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. ``assigned``: what the files set, by group and name; ``files``: by path.

    ``rabbit`` is by address, with what went wrong; ``services`` the same by nova, neutron, glance. ``networks`` and
    ``groups`` are by the names in the configuration, None for what does not exist. ``clock``: seconds by which
    Keystone's is ahead. ``hosts``: compute hosts that are up and enabled.
    """

    conf: cfg.ConfigOpts
    now: datetime
    assigned: Mapping[str, Mapping[str, Sequence[str]]]
    unused: Sequence[str]
    files: Mapping[str, File]
    interfaces: Sequence[Interface] | Unknown = NOT_ASKED
    database: DatabaseSeen | Unknown = NOT_ASKED
    rabbit: Mapping[str, str | None] | Unknown = NOT_ASKED
    login: Login | Unknown = NOT_ASKED
    token_checks: Login | Unknown = NOT_ASKED
    clock: float | Unknown = NOT_ASKED
    services: Mapping[str, str | None] | Unknown = NOT_ASKED
    images: Sequence[Image] | Unknown = NOT_ASKED
    flavor: Flavor | Unknown | None = NOT_ASKED
    key_pair: bool | Unknown = NOT_ASKED
    hosts: Sequence[str] | Unknown = NOT_ASKED
    networks: Mapping[str, Network | None] | Unknown = NOT_ASKED
    groups: Mapping[str, Group | None] | Unknown = NOT_ASKED
    leg_ports: Sequence[LegPort] | Unknown = NOT_ASKED
    quotas: Mapping[str, Room] | Unknown = NOT_ASKED
