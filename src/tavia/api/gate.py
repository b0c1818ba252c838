"""What every request passes first: whom it may be addressed to, who asks, what the client can read, which rule it is.

``[api_settings] auth_strategy = noauth``: nobody is asked who they are, so the service listens on loopback alone, if
it is not told otherwise by name, and takes only requests that are addressed to it by a name of its own. A web page
elsewhere cannot have one of those (DNS rebinding). With Keystone a token is the proof, whatever the name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import falcon
from oslo_config import cfg
from oslo_context.context import RequestContext

from tavia.api.access import Access, Policy, access_of
from tavia.api.authentication import CHECKED, anonymous
from tavia.api.errors import ApiError

DEFAULT_PROJECT = "00000000000000000000000000000000"
"""The project of requests that name none."""
_LONGEST_PROJECT = 36

Rules = Mapping[tuple[str, str], str | None]
"""The rule that a request must satisfy, by its URL's template and its method; None: there is nothing to protect."""


class Gate:
    """Falcon middleware."""

    def __init__(self, conf: cfg.ConfigOpts, rules: Rules) -> None:
        self._asks = asks_who(conf)
        self._names = {"localhost", conf.api_settings.bind_host, *map(str.lower, conf.tavia.allowed_hosts)}
        self._rules = rules
        self._policy = Policy(conf)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Refuse a foreign Host header and an Accept without JSON; note who asks; take ``.json`` off the path."""
        if not self._asks and not self._is_ours(req.host):
            raise falcon.HTTPForbidden(description=f"This service is not called {req.host[:255]}.")
        if req.path != "/healthcheck" and not req.client_accepts("application/json"):
            raise falcon.HTTPNotAcceptable(description="Answers are application/json.")
        req.context.caller = self._caller(req)
        if req.path != "/openapi.json":
            req.path = req.path.removesuffix(".json")

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called where a route fits: have its rule at hand for the handler."""
        rule = self._rules.get((req.uri_template or "", req.method))
        req.context.access = Access(self._policy, req.context.caller, rule)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Let no answer out of a handler that forgot to ask the policy."""
        route = (req.uri_template or "", req.method)
        is_protected = resource and req.method != "OPTIONS" and self._rules.get(route, "") is not None
        if req_succeeded and is_protected and not access_of(req).asked:
            raise AssertionError(f"{route} was answered without a look at the policy")

    def _caller(self, req: falcon.Request) -> RequestContext:
        """Also what log lines say of the request."""
        if CHECKED in req.env:
            return RequestContext.from_environ(req.env)
        if self._asks:
            return anonymous(req.env)
        project_id = req.get_header("X-Project-Id") or DEFAULT_PROJECT
        if len(project_id) > _LONGEST_PROJECT:
            raise ApiError(400, "X-Project-Id is longer than a project id can be.")
        return anonymous(req.env, project_id=project_id, is_admin=True)

    def _is_ours(self, host: str) -> bool:
        name = host.strip("[]").rstrip(".").lower()
        return name in self._names or is_loopback(name)


def asks_who(conf: cfg.ConfigOpts) -> bool:
    """Whether a request has to prove whose it is."""
    return bool(conf.api_settings.auth_strategy == "keystone")


def is_loopback(address: str) -> bool:
    """Whether it is an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
