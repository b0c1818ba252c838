"""Attributes of the API whose effect a later release brings.

Clients expect to find them in answers, so they are shown with their neutral value, the default here. A value that
would ask for the effect is refused, so nothing that is accepted is ignored. When an attribute gets its effect its
line moves to the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from tavia.model.attributes import In
from tavia.model.resources import HealthMonitor, Listener, LoadBalancer, Member, Pool

_Text = Annotated[str | None, In("R C U N")]
_Flag = Annotated[bool, In("R C U N")]
_List = Annotated[list[Any], In("R C U N")]


@dataclass(kw_only=True)
class _LoadBalancer:
    """These are declared in the model, and nothing acts on them yet."""

    vip_sg_ids: Annotated[list[str], In("R C U")] = field(default_factory=list)
    flavor_id: Annotated[str | None, In("R C")] = None
    availability_zone: Annotated[str | None, In("R C")] = None


@dataclass(kw_only=True)
class _Listener:
    default_tls_container_ref: _Text = None
    sni_container_refs: _List = field(default_factory=list)
    client_ca_tls_container_ref: _Text = None
    client_authentication: Annotated[str, In("R C U N")] = "NONE"
    client_crl_container_ref: _Text = None
    tls_ciphers: _Text = None
    tls_versions: _List = field(default_factory=list)
    alpn_protocols: _List = field(default_factory=list)
    hsts_max_age: Annotated[int | None, In("R C U N")] = None
    hsts_include_subdomains: _Flag = False
    hsts_preload: _Flag = False
    l7policies: Annotated[list[Any], In("R C N")] = field(default_factory=list)


@dataclass(kw_only=True)
class _Pool:
    tls_container_ref: _Text = None
    ca_tls_container_ref: _Text = None
    crl_container_ref: _Text = None
    tls_enabled: _Flag = False
    tls_ciphers: _Text = None
    tls_versions: _List = field(default_factory=list)
    alpn_protocols: _List = field(default_factory=list)


@dataclass(kw_only=True)
class _Member:
    request_sriov: Annotated[bool, In("C N")] = False


LATER: dict[type[Any], type[Any]] = {
    LoadBalancer: _LoadBalancer,
    Listener: _Listener,
    Pool: _Pool,
    Member: _Member,
}
"""The attributes that wait for their effect, of the resources that have such."""

LATER_VALUES: dict[type[Any], dict[str, frozenset[str]]] = {
    Listener: {"protocol": frozenset({"HTTPS", "PROMETHEUS", "SCTP", "TERMINATED_HTTPS", "UDP"})},
    Pool: {"protocol": frozenset({"SCTP", "UDP"}), "lb_algorithm": frozenset({"SOURCE_IP_PORT"})},
    HealthMonitor: {"type": frozenset({"HTTPS", "PING", "SCTP", "TLS-HELLO", "UDP-CONNECT"})},
}
"""The same of values of attributes that have an effect (api-surface, "Enumerations")."""
