"""The OpenAPI description, out of the table of routes and the bodies' own types. Served at /openapi.json."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from tavia.api.bodies import Body
from tavia.api.handlers.common import Reader
from tavia.api.routes import Route
from tavia.model.attributes import attributes
from tavia.store.schema import without_none

_METHODS = ("get", "post", "put", "delete")
_STATUS = {"post": "201", "delete": "204"}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document: one path for each route, under its first prefix (the others are aliases)."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tavia, load balancing in the Octavia v2 API", "version": version("tavia")},
        "paths": {f"{route.prefixes[0]}{route.path}": _path(route) for route in routes},
    }


def _path(route: Route) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    path: dict[str, Any] = {"parameters": parameters} if parameters else {}
    for method in _METHODS:
        responder = getattr(route.handler, f"on_{method}_{route.suffix}" if route.suffix else f"on_{method}", None)
        if responder is not None:
            path[method] = _operation(route, method, (responder.__doc__ or "").strip().partition("\n")[0])
    return path


def _operation(route: Route, method: str, summary: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {_STATUS.get(method, "200"): {"description": "Done"}}}
    handler = route.handler
    if not isinstance(handler, Reader) or route.suffix not in (None, "one"):
        return operation
    resource = handler.resource
    if method == "get":
        shown = _shown(resource)
        schema = (
            _under(resource.names.word, shown)
            if route.suffix
            else _under(resource.names.words, {"type": "array", "items": shown})
        )
        operation["responses"]["200"]["content"] = {"application/json": {"schema": schema}}
    body: Body | None = getattr(handler, f"{method}_body", None)
    if body is not None and (method == "post") == (route.suffix is None):
        schema = _under(resource.names.word, body.adapter.json_schema())
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _under(root: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [root], "properties": {root: schema}}


def _shown(resource: type[Any]) -> dict[str, Any]:
    """What an object's own attributes look like; those from other rows are lists of ids."""
    declared = [a for a in attributes(resource) if a.places.has("R")]
    return {
        "type": "object",
        "properties": {a.name: TypeAdapter(without_none(a.type)).json_schema() for a in declared},
    }
