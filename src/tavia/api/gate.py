"""What every request passes first: whom it may be addressed to, who asks, what the client can read.

``[api_settings] auth_strategy = noauth``: nobody is asked who they are, so the service listens on loopback alone and
takes only requests addressed to it by a loopback name, which a web page elsewhere cannot have (DNS rebinding).
"""

from __future__ import annotations

import ipaddress

import falcon
from oslo_config import cfg

from tavia.api.errors import ApiError

DEFAULT_PROJECT = "00000000000000000000000000000000"
"""The project of requests that name none."""
_LONGEST_PROJECT = 36


class Gate:
    """Falcon middleware."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._bind_host: str = conf.api_settings.bind_host

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Refuse a foreign Host header and an Accept without JSON; note the project; take ``.json`` off the path."""
        if not self._is_ours(req.host):
            raise falcon.HTTPForbidden(description=f"This service is not called {req.host[:255]}.")
        if req.path != "/healthcheck" and not req.client_accepts("application/json"):
            raise falcon.HTTPNotAcceptable(description="Answers are application/json.")
        project_id = req.get_header("X-Project-Id") or DEFAULT_PROJECT
        if len(project_id) > _LONGEST_PROJECT:
            raise ApiError(400, "X-Project-Id is longer than a project id can be.")
        req.context.project_id = project_id
        if req.path != "/openapi.json":
            req.path = req.path.removesuffix(".json")

    def _is_ours(self, host: str) -> bool:
        name = host.strip("[]").rstrip(".").lower()
        return name in ("localhost", self._bind_host) or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Whether it is an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
