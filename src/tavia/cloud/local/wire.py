"""The daemon's protocol: one JSON object a line over a unix socket, a request and its answer.

A request is ``{"call": name, "arguments": {...}}``, the answer ``{"result": ...}`` or ``{"error": {...}}``. The same
encoding is the daemon's form on disk. Client and daemon share this module.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from tavia.cloud.protocols import (
    AddressRefused,
    FixedIp,
    Network,
    NotFound,
    Port,
    PortSpec,
    Server,
    ServerSpec,
    ServerStatus,
    Subnet,
)
from tavia.model.seams import Seam, SeamError


def encode(value: Any) -> Any:
    """The JSON form of our value objects: sets become sorted lists, bytes base64, dataclasses objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return encode(asdict(value))
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def network(data: Mapping[str, Any]) -> Network:
    """A network from its JSON form."""
    return Network(**{**data, "subnet_ids": tuple(data["subnet_ids"])})


def subnet(data: Mapping[str, Any]) -> Subnet:
    """A subnet from its JSON form."""
    return Subnet(**{**data, "host_routes": tuple((to, via) for to, via in data["host_routes"])})


def port(data: Mapping[str, Any]) -> Port:
    """A port from its JSON form."""
    sets = {key: frozenset(data[key]) for key in ("allowed_addresses", "tags")}
    return Port(**{**data, **sets, "fixed_ips": tuple(FixedIp(**fixed_ip) for fixed_ip in data["fixed_ips"])})


def port_spec(data: Mapping[str, Any]) -> PortSpec:
    """What port to make, from its JSON form."""
    sets = {key: frozenset(data[key]) for key in ("allowed_addresses", "tags")}
    return PortSpec(**{**data, **sets, "fixed_ips": [(subnet_id, address) for subnet_id, address in data["fixed_ips"]]})


def server(data: Mapping[str, Any]) -> Server:
    """A server from its JSON form."""
    return Server(**{**data, "status": ServerStatus(data["status"]), "tags": frozenset(data["tags"])})


def server_spec(data: Mapping[str, Any]) -> ServerSpec:
    """A server's specification from its JSON form."""
    files = {path: base64.b64decode(content) for path, content in data["files"].items()}
    return ServerSpec(**{**data, "files": files, "tags": frozenset(data["tags"])})


def encode_error(error: SeamError) -> dict[str, Any]:
    """The JSON form of an error."""
    form = {
        "class": type(error).__name__,
        "seam": error.seam,
        "code": error.code,
        "message": error.message,
        "permanent": error.permanent,
    }
    if isinstance(error, NotFound):
        form |= {"what": error.what, "object_id": error.object_id}
    return form


def decode_error(form: Mapping[str, Any]) -> SeamError:
    """The error that the daemon met, of the class that callers tell apart."""
    if form["class"] == "NotFound":
        return NotFound(form["what"], form["object_id"])
    if form["class"] == "AddressRefused":
        return AddressRefused(form["code"], form["message"])
    return SeamError(Seam(form["seam"]), form["code"], form["message"], permanent=form["permanent"])
