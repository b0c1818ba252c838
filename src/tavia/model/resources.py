"""The resources, each declared once: the tables, the validation and OpenAPI are built from these dataclasses.

Beside its attributes a resource declares its place: its names, its parent, whether it heads a unit, how it is read.
What reads, deletes, commits and holds back whole trees, counts quotas and serves URLs derives from that.

An attribute with :class:`~tavia.model.attributes.In` is part of the API; one without is internal to Tavia.
Names and limits are those of api-surface, "Attributes of each resource". Times are naive UTC datetimes. Attributes
that the API derives from other rows (``listeners`` of a pool, say) are not declared: the API's handlers add them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Interval, MaxLen

from tavia.model.attributes import (
    CIDR,
    DNS_NAME,
    EXPECTED_CODES,
    HTTP_VERSION,
    IP,
    URL_PATH,
    UUID,
    In,
    References,
    attributes,
)
from tavia.model.protocols import ListenerProtocol, MonitorType, PoolProtocol
from tavia.model.statuses import AmphoraStatus, OperatingStatus, ProvisioningStatus, Role, Topology

Id = Annotated[str, MaxLen(36), UUID, In("R")]
Name = Annotated[str, MaxLen(255), In("R C U N")]
Tags = Annotated[list[Annotated[str, MaxLen(255)]], In("R C U N")]
Flag = Annotated[bool, In("R C U N")]
Port = Annotated[int, Interval(ge=1, le=65535)]
Seconds = Annotated[int, Interval(ge=0, le=2147483), In("R C! U N!")]
"""No more than HAProxy's timers hold: 2^31 - 1 ms (configuration manual, section 2.5)."""
Milliseconds = Annotated[int, Interval(ge=0, le=2073600000), In("R C U N")]

Algorithm = Literal["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"]
HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH"]


@dataclass(frozen=True, slots=True)
class Names:
    """How a resource is called. ``word`` and ``words`` are the root keys of bodies, ``title`` is for people.

    ``argument`` is what Octavia's faults call a body.
    """

    word: str
    words: str
    title: str
    argument: str

    @property
    def parameter(self) -> str:
        """The name of its id in the templates of URLs."""
        return f"{self.word}_id"


@dataclass(kw_only=True)
class Row:
    """What every resource has. A quota is named after the ``table``: ``[quotas] default_<table>_quota``."""

    table: ClassVar[str]
    names: ClassVar[Names]

    id: Id
    project_id: Annotated[str, MaxLen(36), In("R C")]
    created_at: Annotated[datetime, In("R")]
    updated_at: Annotated[datetime | None, In("R")] = None


@dataclass(kw_only=True)
class Configured(Row):
    """A resource that tenants configure and a worker applies.

    ``changed_generation`` is the load balancer's generation at which this row's provisioning status was last set;
    ``deleted_generation`` the one at which its deletion was accepted, None while it should exist.

    ``parent`` is the attribute that references the row which this one stands below and goes with. ``read_with_parent``:
    there are so few to a parent that one statement reads both. ``is_reported``: heartbeats tell its operating status;
    otherwise that follows from its being applied.
    """

    parent: ClassVar[str]
    read_with_parent: ClassVar[bool] = False
    is_reported: ClassVar[bool] = True

    name: Name = ""
    admin_state_up: Flag = True
    tags: Tags = field(default_factory=list)
    provisioning_status: Annotated[ProvisioningStatus, In("R")] = ProvisioningStatus.PENDING_CREATE
    operating_status: Annotated[OperatingStatus, In("R")] = OperatingStatus.OFFLINE
    fault: Annotated[dict[str, Any] | None, In("R")] = None
    changed_generation: int = 0
    deleted_generation: int | None = None


@dataclass(kw_only=True)
class Unit(Configured):
    """A resource that heads a unit: it and all that stands below it are applied, held back and reported together.

    ``applied_form`` is the unit as it was applied last (:mod:`tavia.model.forms`), None before that.
    """

    applied_form: dict[str, Any] | None = None


OUR_PROVIDERS = frozenset({"amphora", "octavia"})
"""Both names of the one provider whose load balancers workers converge (octavia.conf knows both)."""


@dataclass(kw_only=True)
class LoadBalancer(Configured):
    """A load balancer: a VIP and what the loop knows of it.

    ``topology``, ``compute_flavor``, ``compute_zone`` and ``image_tag`` are what its amphorae boot with, resolved when
    it was accepted. None: that is left to compute, or a release accepted it that did not store it, and the worker's
    configuration counts.

    ``generation`` counts accepted changes, ``observed_generation`` is the last one wholly converged,
    ``attempted_generation`` the last one that a worker took as far as it could (it may wait or have failed).
    ``due_at``, ``failing_since`` and ``pending_since`` are seconds since the epoch by the database's clock; the last is
    when the first change was accepted that a PENDING status speaks of, without meaning in any other. ``vip_port_ours``
    tells whether the VIP's port is deleted at the end. ``security_group_id`` is the group of its own that the VIP's
    port has, ``security_hash`` the hash of the rules that were put there last.
    """

    table: ClassVar[str] = "load_balancer"
    names: ClassVar[Names] = Names("loadbalancer", "loadbalancers", "Load Balancer", "load_balancer")

    description: Annotated[str, MaxLen(255), In("R C U")] = ""
    vip_address: Annotated[str | None, MaxLen(64), IP, In("R C")] = None
    vip_port_id: Annotated[str | None, MaxLen(36), UUID, In("R C")] = None
    vip_subnet_id: Annotated[str | None, MaxLen(36), UUID, In("R C")] = None
    vip_network_id: Annotated[str | None, MaxLen(36), UUID, In("R C")] = None
    vip_qos_policy_id: Annotated[str | None, MaxLen(36), UUID, In("R C U")] = None
    vip_sg_ids: Annotated[list[Annotated[str, UUID]], In("R C U")] = field(default_factory=list)
    additional_vips: Annotated[list[dict[str, Any]], In("R C")] = field(default_factory=list)
    provider: Annotated[str, MaxLen(64), In("R C")] = "amphora"
    flavor_id: Annotated[str | None, MaxLen(36), UUID, In("R C")] = None
    availability_zone: Annotated[str | None, MaxLen(255), In("R C")] = None
    vip_vnic_type: Annotated[str, MaxLen(64), In("R")] = "normal"

    topology: Topology = Topology.SINGLE
    compute_flavor: Annotated[str | None, MaxLen(255)] = None
    compute_zone: Annotated[str | None, MaxLen(255)] = None
    image_tag: Annotated[str | None, MaxLen(255)] = None
    vip_port_ours: bool = True
    security_group_id: Annotated[str | None, MaxLen(255)] = None
    security_hash: Annotated[str | None, MaxLen(64)] = None
    generation: int = 1
    observed_generation: int = 0
    attempted_generation: int = 0
    due_at: float | None = None
    failing_since: float | None = None
    pending_since: float | None = None

    @property
    def vips(self) -> list[str]:
        """The addresses that it is reached at, the additional ones last."""
        return [self.vip_address or "", *(vip["ip_address"] for vip in self.additional_vips)]


@dataclass(kw_only=True)
class Listener(Unit):
    """A port of the VIP and how clients are treated there. Timeouts are milliseconds, 0 is for ever."""

    table: ClassVar[str] = "listener"
    names: ClassVar[Names] = Names("listener", "listeners", "Listener", "listener_")
    parent: ClassVar[str] = "loadbalancer_id"
    read_with_parent: ClassVar[bool] = True

    loadbalancer_id: Annotated[str, MaxLen(36), UUID, References("load_balancer"), In("C!")]
    description: Annotated[str, MaxLen(255), In("R C U N")] = ""
    protocol: Annotated[ListenerProtocol, MaxLen(16), In("R C! N!")]
    protocol_port: Annotated[int, Interval(ge=1, le=65535), In("R C! N!")]
    connection_limit: Annotated[int, Ge(-1), In("R C U N")] = -1
    default_pool_id: Annotated[str | None, MaxLen(36), UUID, References("pool"), In("R C U N")] = None
    insert_headers: Annotated[dict[str, str], In("R C U N")] = field(default_factory=dict)
    timeout_client_data: Milliseconds = 50000
    timeout_member_connect: Milliseconds = 5000
    timeout_member_data: Milliseconds = 50000
    timeout_tcp_inspect: Milliseconds = 0
    allowed_cidrs: Annotated[list[Annotated[str, CIDR]] | None, In("R C U N")] = None


@dataclass(kw_only=True)
class Pool(Unit):
    """A set of members and how requests are spread over them."""

    table: ClassVar[str] = "pool"
    names: ClassVar[Names] = Names("pool", "pools", "Pool", "pool_")
    parent: ClassVar[str] = "loadbalancer_id"

    loadbalancer_id: Annotated[str, MaxLen(36), UUID, References("load_balancer"), In("C")]
    description: Annotated[str, MaxLen(255), In("R C U N")] = ""
    protocol: Annotated[PoolProtocol, MaxLen(16), In("R C! N")]
    lb_algorithm: Annotated[Algorithm, MaxLen(32), In("R C! U N")]
    session_persistence: Annotated[dict[str, Any] | None, In("R C U N")] = None


@dataclass(kw_only=True)
class Member(Configured):
    """A server behind a pool. Weight 0 drains it."""

    table: ClassVar[str] = "member"
    names: ClassVar[Names] = Names("member", "members", "Member", "member_")
    parent: ClassVar[str] = "pool_id"

    loadbalancer_id: Annotated[str, MaxLen(36), References("load_balancer")]
    pool_id: Annotated[str, MaxLen(36), References("pool")]
    address: Annotated[str, MaxLen(64), IP, In("R C! N!")]
    protocol_port: Annotated[int, Interval(ge=1, le=65535), In("R C! N!")]
    weight: Annotated[int, Interval(ge=0, le=256), In("R C U N")] = 1
    backup: Flag = False
    subnet_id: Annotated[str | None, MaxLen(36), UUID, In("R C N")] = None
    monitor_address: Annotated[str | None, MaxLen(64), IP, In("R C U N")] = None
    monitor_port: Annotated[int | None, Interval(ge=1, le=65535), In("R C U N")] = None
    vnic_type: Annotated[str, MaxLen(64), In("R")] = "normal"


@dataclass(kw_only=True)
class HealthMonitor(Configured):
    """How the members of its pool are checked. ``delay`` and ``timeout`` are seconds."""

    table: ClassVar[str] = "health_monitor"
    names: ClassVar[Names] = Names("healthmonitor", "healthmonitors", "Health Monitor", "health_monitor_")
    parent: ClassVar[str] = "pool_id"
    read_with_parent: ClassVar[bool] = True
    is_reported: ClassVar[bool] = False

    loadbalancer_id: Annotated[str, MaxLen(36), References("load_balancer")]
    pool_id: Annotated[str, MaxLen(36), UUID, References("pool"), In("C!")]
    type: Annotated[MonitorType, MaxLen(16), In("R C! N!")]
    delay: Seconds
    timeout: Seconds
    max_retries: Annotated[int, Interval(ge=1, le=10), In("R C! U N!")]
    max_retries_down: Annotated[int, Interval(ge=1, le=10), In("R C U N")] = 3
    http_method: Annotated[HttpMethod | None, MaxLen(16), In("R C U N")] = None
    url_path: Annotated[str | None, MaxLen(255), URL_PATH, In("R C U N")] = None
    expected_codes: Annotated[str | None, MaxLen(64), EXPECTED_CODES, In("R C U N")] = None
    http_version: Annotated[float | None, HTTP_VERSION, In("R C U N")] = None
    domain_name: Annotated[str | None, MaxLen(255), DNS_NAME, In("R C U N")] = None


@dataclass(kw_only=True)
class Amphora:
    """One server that carries a load balancer's traffic. A row boots at most one server, ever.

    ``replace_generation`` is the generation at which its replacement was asked for. ``applied_generation`` and
    ``applied_hash`` tell which bundle it last took, ``held_hash`` by which hash its agent knows that one (an older
    agent makes its own, of the keys that it knows). ``fenced`` is true once it was powered off and its port lost
    the VIP, so that another may take the VIP. ``boot_started_at`` and ``active_at``, when compute first said that its
    server runs, are seconds since the epoch by the database's clock. ``member_ports`` are its ports on members'
    subnets (:class:`~tavia.model.member_ports.MemberPort`); ``additional_ips`` its addresses on the subnets of
    additional VIPs, as (subnet_id, ip_address) objects; ``qos_policy_id`` is what its VIP-side port has.
    """

    table: ClassVar[str] = "amphora"
    names: ClassVar[Names] = Names("amphora", "amphorae", "Amphora", "amphora")

    id: Id
    loadbalancer_id: Annotated[str | None, MaxLen(36), UUID, References("load_balancer"), In("R")] = None
    compute_id: Annotated[str | None, MaxLen(36), In("R")] = None
    lb_network_ip: Annotated[str | None, MaxLen(64), In("R")] = None
    vrrp_ip: Annotated[str | None, MaxLen(64), In("R")] = None
    ha_ip: Annotated[str | None, MaxLen(64), In("R")] = None
    vrrp_port_id: Annotated[str | None, MaxLen(36), In("R")] = None
    ha_port_id: Annotated[str | None, MaxLen(36), In("R")] = None
    cert_expiration: Annotated[datetime | None, In("R")] = None
    cert_busy: Annotated[bool, In("R")] = False
    role: Annotated[Role | None, In("R")] = None
    status: Annotated[AmphoraStatus, In("R")] = AmphoraStatus.BOOTING
    vrrp_interface: Annotated[str | None, MaxLen(16), In("R")] = None
    vrrp_id: Annotated[int | None, In("R")] = None
    vrrp_priority: Annotated[int | None, In("R")] = None
    cached_zone: Annotated[str | None, MaxLen(255), In("R")] = None
    created_at: Annotated[datetime, In("R")]
    updated_at: Annotated[datetime | None, In("R")] = None
    image_id: Annotated[str | None, MaxLen(36), In("R")] = None
    compute_flavor: Annotated[str | None, MaxLen(255), In("R")] = None

    mgmt_port_id: Annotated[str | None, MaxLen(36)] = None
    mgmt_subnet_id: Annotated[str | None, MaxLen(36)] = None
    vrrp_mac: Annotated[str | None, MaxLen(32)] = None
    replace_generation: int | None = None
    deleted_generation: int | None = None
    applied_generation: int = 0
    applied_hash: Annotated[str | None, MaxLen(64)] = None
    held_hash: Annotated[str | None, MaxLen(64)] = None
    fenced: bool = False
    boot_started_at: float | None = None
    active_at: float | None = None
    member_ports: list[dict[str, Any]] = field(default_factory=list)
    additional_ips: list[dict[str, Any]] = field(default_factory=list)
    qos_policy_id: Annotated[str | None, MaxLen(36)] = None
    fault: Annotated[dict[str, Any] | None, In("R")] = None


CHILDREN: tuple[type[Configured], ...] = (Pool, Listener, HealthMonitor, Member)
"""The resources below a load balancer, referenced ones before those that reference them: rows are added in this order,
and deleted in the reverse one."""

RESOURCES: tuple[type[Any], ...] = (LoadBalancer, *CHILDREN, Amphora)
"""All of them."""


def _parent(resource: type[Configured]) -> str | None:
    """The table that a resource's rows stand below a row of."""
    column = next(attribute for attribute in attributes(resource) if attribute.name == resource.parent)
    reference = column.marker(References)
    return reference.table if reference else None


_CHILDREN_OF: dict[type[Any], tuple[type[Configured], ...]] = {
    above: tuple(each for each in CHILDREN if _parent(each) == above.table) for above in RESOURCES
}


def children_of(resource: type[Any]) -> tuple[type[Configured], ...]:
    """The resources that stand right below a resource."""
    return _CHILDREN_OF[resource]
