"""The one table of URLs. A further resource is its handler and its lines here."""

from __future__ import annotations

from typing import Any, NamedTuple

from falcon.routing import map_http_methods

from tavia.api.handlers.amphorae import Amphorae
from tavia.api.handlers.common import Backend
from tavia.api.handlers.healthmonitors import HealthMonitors
from tavia.api.handlers.listeners import Listeners
from tavia.api.handlers.loadbalancers import LoadBalancers
from tavia.api.handlers.members import Members
from tavia.api.handlers.pools import Pools
from tavia.api.handlers.providers import Providers
from tavia.api.rbac import API

LBAAS = ("/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0")
OCTAVIA = ("/v2/octavia", "/v2.0/octavia")
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
    """All URLs of resources."""
    loadbalancers, listeners, pools = LoadBalancers(backend), Listeners(backend), Pools(backend)
    members, healthmonitors, amphorae = Members(backend), HealthMonitors(backend), Amphorae(backend)
    return [
        Route(LBAAS, "/loadbalancers", loadbalancers),
        Route(LBAAS, "/loadbalancers/{loadbalancer_id}", loadbalancers, "one"),
        Route(LBAAS, "/loadbalancers/{loadbalancer_id}/stats", loadbalancers, "stats"),
        Route(LBAAS, "/loadbalancers/{loadbalancer_id}/status", loadbalancers, "status"),
        Route(LBAAS, "/loadbalancers/{loadbalancer_id}/statuses", loadbalancers, "status"),
        Route(LBAAS, "/loadbalancers/{loadbalancer_id}/failover", loadbalancers, "failover"),
        Route(LBAAS, "/listeners", listeners),
        Route(LBAAS, "/listeners/{listener_id}", listeners, "one"),
        Route(LBAAS, "/listeners/{listener_id}/stats", listeners, "stats"),
        Route(LBAAS, "/pools", pools),
        Route(LBAAS, "/pools/{pool_id}", pools, "one"),
        Route(LBAAS, "/pools/{pool_id}/members", members),
        Route(LBAAS, "/pools/{pool_id}/members/{member_id}", members, "one"),
        Route(LBAAS, "/healthmonitors", healthmonitors),
        Route(LBAAS, "/healthmonitors/{healthmonitor_id}", healthmonitors, "one"),
        Route(LBAAS, "/providers", Providers(backend)),
        Route(OCTAVIA, "/amphorae", amphorae),
        Route(OCTAVIA, "/amphorae/{amphora_id}", amphorae, "one"),
        Route(OCTAVIA, "/amphorae/{amphora_id}/failover", amphorae, "failover"),
        Route(OCTAVIA, "/amphorae/{amphora_id}/config", amphorae, "config"),
        Route(OCTAVIA, "/amphorae/{amphora_id}/stats", amphorae, "stats"),
    ]
