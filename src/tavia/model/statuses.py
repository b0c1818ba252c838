"""Statuses and the one place where their transitions are decided: SQL derives its conditions from the functions here.

Values as in the Octavia v2 API (api-surface, "Enumerations"). A status is what people see; what is intended stands
in generations (``changed_generation``, ``deleted_generation``, ``replace_generation``), which alone drive the worker.
"""

from __future__ import annotations

from enum import StrEnum


class ProvisioningStatus(StrEnum):
    """How far the last change of an object has come."""

    ACTIVE = "ACTIVE"
    PENDING_CREATE = "PENDING_CREATE"
    PENDING_UPDATE = "PENDING_UPDATE"
    PENDING_DELETE = "PENDING_DELETE"
    ERROR = "ERROR"
    DELETED = "DELETED"


class OperatingStatus(StrEnum):
    """How an object does its work, from heartbeats (agent-surface, "Heartbeats")."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    DRAINING = "DRAINING"
    NO_MONITOR = "NO_MONITOR"


class AmphoraStatus(StrEnum):
    """Where an amphora is in its life; BOOTING covers all from its first port until it serves."""

    BOOTING = "BOOTING"
    ALLOCATED = "ALLOCATED"
    PENDING_DELETE = "PENDING_DELETE"
    DELETED = "DELETED"
    ERROR = "ERROR"


class Role(StrEnum):
    """An amphora's place in its load balancer's topology."""

    STANDALONE = "STANDALONE"
    MASTER = "MASTER"
    BACKUP = "BACKUP"


class Topology(StrEnum):
    """How many amphorae serve a load balancer."""

    SINGLE = "SINGLE"
    ACTIVE_STANDBY = "ACTIVE_STANDBY"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles to be filled, one amphora each."""
        return (Role.STANDALONE,) if self is Topology.SINGLE else (Role.MASTER, Role.BACKUP)


PENDING = frozenset(
    {ProvisioningStatus.PENDING_CREATE, ProvisioningStatus.PENDING_UPDATE, ProvisioningStatus.PENDING_DELETE}
)
"""The provisioning statuses of a change under way."""


def changed(current: ProvisioningStatus) -> ProvisioningStatus:
    """The status of an object whose change was just accepted: one never applied stays PENDING_CREATE."""
    if current is ProvisioningStatus.PENDING_CREATE:
        return current
    return ProvisioningStatus.PENDING_UPDATE


def applied(current: ProvisioningStatus) -> ProvisioningStatus:
    """The status of an object as it should be that runs on the amphorae now; one in ERROR too, if it runs at last."""
    return ProvisioningStatus.ACTIVE if current in (*PENDING, ProvisioningStatus.ERROR) else current


def operating_at_creation(*, is_member: bool, has_monitor: bool) -> OperatingStatus:
    """The operating status that a new object starts with (api-surface, "Statuses")."""
    if is_member and not has_monitor:
        return OperatingStatus.NO_MONITOR
    return OperatingStatus.OFFLINE


def operating_when_applied(admin_state_up: bool) -> OperatingStatus:
    """What a health monitor becomes when its change is applied; nothing reports on it by heartbeat."""
    return OperatingStatus.ONLINE if admin_state_up else OperatingStatus.OFFLINE
