"""What a security group lets in, as Neutron writes it, and what has to change. Pure.

Neutron has a rule for each of IPv4 and IPv6. The rules for what goes out are its own affair and stay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tavia.cloud.protocols import SecurityRule

_FAMILIES = {4: "IPv4", 6: "IPv6"}
_ANYWHERE = {"0.0.0.0/0": "IPv4", "::/0": "IPv6"}
_PROTOCOLS = {"6": "tcp", "17": "udp", "112": "vrrp", "132": "sctp"}
"""A protocol is given back as it was given, by number or by name."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """One of Neutron's rules. ``remote`` is a CIDR, the id of a group, or None: from anywhere."""

    family: str
    protocol: str | None
    first_port: int | None
    last_port: int | None
    remote: str | None

    def attributes(self, group_id: str) -> dict[str, Any]:
        """As Neutron is asked to make it."""
        source = {"remote_group_id": group_id} if self.remote == group_id else {"remote_ip_prefix": self.remote}
        return {
            "security_group_id": group_id,
            "direction": "ingress",
            "ethertype": self.family,
            "protocol": self.protocol,
            "port_range_min": self.first_port,
            "port_range_max": self.last_port,
            **(source if self.remote else {}),
        }


def ingress(rules: Iterable[SecurityRule], group_id: str) -> set[Ingress]:
    """The rules of Neutron's that let in just that."""
    return {
        Ingress(family, rule.protocol, rule.port, rule.port, group_id if rule.from_peers else _cidr(rule.remote_cidr))
        for rule in rules
        for family in _families(rule)
    }


def existing(rules: Iterable[Mapping[str, Any]]) -> dict[str, Ingress]:
    """What a group lets in now, by rule id."""
    return {rule["id"]: _read(rule) for rule in rules if rule["direction"] == "ingress"}


def _families(rule: SecurityRule) -> list[str]:
    if rule.from_peers or rule.remote_cidr is None:
        return list(_FAMILIES.values())
    return [_FAMILIES[ipaddress.ip_network(rule.remote_cidr, strict=False).version]]


def _cidr(cidr: str | None) -> str | None:
    """Without host bits; None for all addresses of its family, which Neutron takes for the same rule."""
    if cidr is None:
        return None
    network = str(ipaddress.ip_network(cidr, strict=False))
    return None if network in _ANYWHERE else network


def _read(rule: Mapping[str, Any]) -> Ingress:
    protocol = rule["protocol"]
    return Ingress(
        rule["ethertype"],
        _PROTOCOLS.get(str(protocol), protocol),
        rule["port_range_min"],
        rule["port_range_max"],
        rule["remote_group_id"] or rule.get("remote_address_group_id") or _cidr(rule["remote_ip_prefix"]),
    )
