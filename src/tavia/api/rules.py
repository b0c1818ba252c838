"""Rules that concern one object and its parent, beyond what types and limits say (api-surface, "Rules worth knowing").

Pure. Each function takes an object as it would be and returns it in its settled form, with the defaults that depend
on its other attributes; ApiError where it must not be. POST, PUT, batches and whole trees all come through here.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Collection
from typing import Any, NamedTuple

from tavia.api.errors import ApiError, invalid_input, validation_failure
from tavia.model.protocols import LISTENER_PROTOCOLS, POOL_PROTOCOLS, Transport
from tavia.model.resources import HealthMonitor, Listener, Member, Pool

INSERTABLE_HEADERS = frozenset(
    {"X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP", "X-Real-IP"}
)
HTTP_MONITOR_DEFAULTS: dict[str, Any] = {"http_method": "GET", "url_path": "/", "expected_codes": "200"}

_NO_PERSISTENCE: dict[str, Any] = dict.fromkeys(
    ("type", "cookie_name", "persistence_timeout", "persistence_granularity")
)


class Place(NamedTuple):
    """Where a listener is on a VIP: each transport has ports of its own."""

    transport: Transport
    port: int


def place(row: Listener) -> Place:
    """A listener's."""
    return Place(LISTENER_PROTOCOLS[row.protocol].transport, row.protocol_port)


def invalid_option(value: object, option: str) -> ApiError:
    """A value that is right elsewhere."""
    return ApiError(400, f"{value} is not a valid option for {option}")


def duplicate_listener(protocol_port: int) -> ApiError:
    """A second listener on a port of one transport."""
    return ApiError(409, f"Another Listener on this Load Balancer is already using protocol_port {protocol_port}")


def duplicate_member(address: str, protocol_port: int) -> ApiError:
    """A second member at an address and port."""
    return ApiError(409, f"Another member on this pool is already using ip {address} on protocol_port {protocol_port}")


def listener(row: Listener, vips: Collection[str]) -> Listener:
    """Headers are for HTTP and known; allowed_cidrs are of the IP version of one of the VIPs."""
    for name, value in row.insert_headers.items():
        if LISTENER_PROTOCOLS[row.protocol].mode != "http" or name not in INSERTABLE_HEADERS:
            raise invalid_option(name, f"insert_headers of a listener with protocol {row.protocol}")
        if value.lower() not in ("true", "false"):
            raise invalid_option(value, f"the header {name} of insert_headers: it should be true or false")
    versions = {ipaddress.ip_address(vip).version for vip in vips}
    for cidr in row.allowed_cidrs or ():
        if ipaddress.ip_network(cidr).version not in versions:
            raise validation_failure(f"CIDR {cidr} is of another IP version than the VIP {', '.join(vips)}.")
    return row


def default_pool(row: Listener, its_pool: Pool) -> None:
    """A listener's protocol takes some protocols of pools only."""
    if its_pool.protocol not in LISTENER_PROTOCOLS[row.protocol].pools:
        raise validation_failure(
            f"The pool protocol '{its_pool.protocol}' is invalid while the listener protocol is '{row.protocol}'."
        )


def pool(row: Pool) -> Pool:
    """A session persistence has the cookie that its type wants, and suits the protocol."""
    if row.session_persistence is None:
        return row
    persistence = _NO_PERSISTENCE | row.session_persistence
    kind, cookie = persistence["type"], persistence["cookie_name"]
    if kind is None:
        raise invalid_input("session_persistence.type", None, "Mandatory field missing.")
    if kind == "APP_COOKIE" and not cookie:
        raise validation_failure("Cookie name is required for session persistence of type APP_COOKIE.")
    if kind != "APP_COOKIE" and cookie:
        raise validation_failure(f"Cookie name is not allowed for session persistence of type {kind}.")
    if kind not in POOL_PROTOCOLS[row.protocol].persistence:
        raise validation_failure(f"Session persistence of type {kind} is not possible with protocol {row.protocol}.")
    for name in ("persistence_timeout", "persistence_granularity"):
        if persistence[name] is not None:
            raise validation_failure(f"{name} is only for pools with protocol UDP or SCTP.")
    return dataclasses.replace(row, session_persistence=persistence)


def merged_persistence(old: dict[str, Any] | None, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a PUT makes of a session persistence: null removes it, another type begins anew."""
    if given is None or old is None or given.get("type", old["type"]) != old["type"]:
        return given
    return old | given


def member(row: Member, reserved_addresses: Collection[str]) -> Member:
    """Some addresses are no member's, however they are written: the cloud's metadata service would tell its keys."""
    reserved = [_reached(address) for address in reserved_addresses]
    if _reached(row.address) in reserved:
        raise invalid_option(row.address, "member address")
    if row.monitor_address is not None and _reached(row.monitor_address) in reserved:
        raise invalid_option(row.monitor_address, "monitor_address of a member")
    return row


def _reached(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4-mapped address (::ffff:192.0.2.1) reaches the IPv4 one."""
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed


def monitored(its_pool: Pool, row: HealthMonitor) -> None:
    """A pool's protocol takes some types of health monitors only."""
    if row.type not in POOL_PROTOCOLS[its_pool.protocol].monitors:
        raise validation_failure(
            f"The health monitor type '{row.type}' is invalid while the pool protocol is '{its_pool.protocol}'."
        )


def healthmonitor(row: HealthMonitor) -> HealthMonitor:
    """What is for HTTP is filled in there; elsewhere http_version and domain_name are kept and the others refused."""
    for name in HTTP_MONITOR_DEFAULTS:
        if row.type != "HTTP" and getattr(row, name) is not None:
            raise invalid_option(name, f"health monitors of type {row.type}")
    if row.domain_name is not None and row.http_version != 1.1:  # noqa: PLR2004
        raise validation_failure("domain_name needs http_version 1.1.")
    if row.type != "HTTP":
        return row
    missing = {name: value for name, value in HTTP_MONITOR_DEFAULTS.items() if getattr(row, name) is None}
    return dataclasses.replace(row, **missing)


def differences(old: Any, new: Any) -> dict[str, Any]:
    """The attributes that differ between two states of an object."""
    return {
        field.name: getattr(new, field.name)
        for field in dataclasses.fields(old)
        if getattr(old, field.name) != getattr(new, field.name)
    }
