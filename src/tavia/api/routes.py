"""The table of URLs, out of what the handlers declare. A further resource is one more module there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from falcon.routing import map_http_methods

from tavia.api import handlers
from tavia.api.handlers.common import Backend
from tavia.api.rbac import API

NAMES = ("/v2", "/v2.0", "/v2/lbaas", "/v2.0/lbaas", "/v2/octavia", "/v2.0/octavia")
"""URLs that answer with the API's name alone."""


_ACTIONS = {"GET": ("get_all", "get_one"), "POST": ("post", "post"), "PUT": ("put", "put"), "DELETE": ("", "delete")}
"""What Octavia's rules call a method on a collection, and on one object."""


class Route(NamedTuple):
    """A URL below each of its prefixes; the handler's methods are ``on_get_<suffix>`` and so on.

    The handler's ``policy_word`` is what rules call the resource.
    """

    prefixes: tuple[str, ...]
    path: str
    handler: Any
    suffix: str | None = None

    @property
    def rules(self) -> dict[str, str]:
        """The rule that each of its methods enforces."""
        methods = map_http_methods(self.handler, suffix=self.suffix)
        return {method: f"{API}{self.handler.policy_word}:{self._action(method)}" for method in methods}

    def _action(self, method: str) -> str:
        if self.suffix in (None, "one"):
            return _ACTIONS[method][self.suffix == "one"]
        return f"{method.lower()}_{self.suffix}"


def routes(backend: Backend) -> list[Route]:
    """All URLs of resources: of each class with ``paths`` in the modules of ``handlers``."""
    return [
        Route(tuple(handler.prefixes), path, handler, suffix)
        for handler in (found(backend) for found in _handlers())
        for path, suffix in handler.paths.items()
    ]


def _handlers() -> Iterator[type[Any]]:
    for module in pkgutil.iter_modules(handlers.__path__, f"{handlers.__name__}."):
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name and "paths" in vars(found):
                yield found
