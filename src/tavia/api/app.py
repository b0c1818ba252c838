"""The WSGI application: Falcon's routes inside oslo.middleware's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import falcon
from oslo_config import cfg
from oslo_middleware import cors, http_proxy_to_wsgi, request_id

from tavia.api import errors, local_network, rbac
from tavia.api.authentication import authenticated
from tavia.api.changes import Changes
from tavia.api.gate import Gate, Rules, asks_who
from tavia.api.handlers.common import Backend
from tavia.api.handlers.discovery import HealthCheck, OpenApi, Version, Versions
from tavia.api.measuring import Routing, measured
from tavia.api.openapi import describe
from tavia.api.routes import NAMES, Route, routes
from tavia.api.vips import Vips
from tavia.cloud.protocols import Cloud, Networking
from tavia.store.database import Database

Wsgi = Callable[..., Any]

NEUTRON = "allowed_address_pairs_driver"
"""The network driver with which clients have a Neutron to ask."""

UNPROTECTED = ("/", "/openapi.json", "/healthcheck", local_network.PREFIX, *NAMES)
"""What tells nothing of anyone: no rule protects it."""


def create_app(conf: cfg.ConfigOpts, database: Database, cloud: Cloud) -> Wsgi:
    """The API over a database and a cloud. Cheap to call; the database must have this release's schema."""
    backend = Backend(
        conf=conf,
        database=database,
        changes=Changes(conf, database),
        vips=Vips(conf, cloud.networking, database.deployment_id()),
    )
    table = routes(backend)
    names = {f"{prefix}{each.path}": f"{each.prefixes[0]}{each.path}" for each in table for prefix in each.prefixes}
    middleware: list[Any] = [errors.Answered(), Gate(conf, rules_of(table)), Routing(names)]
    app = falcon.App(middleware=middleware)
    app.req_options.strip_url_path_trailing_slash = True
    errors.register(app)
    _add_routes(app, conf, table, cloud.networking)
    return _layered(app, conf)


def rules_of(table: Sequence[Route]) -> Rules:
    """What ``gate`` holds each URL to. Raises LookupError for a route without a rule."""
    known = {rule.name for rule in rbac.list_rules()}
    found: dict[tuple[str, str], str | None] = {}
    for route in table:
        for method, rule in route.rules.items():
            if rule not in known:
                raise LookupError(f"{method} {route.path} has no rule: {rule}")
            found |= {(f"{prefix}{route.path}", method): rule for prefix in route.prefixes}
    return found | dict.fromkeys(((path, method) for path in UNPROTECTED for method in ("GET", "HEAD")), None)


def _add_routes(
    app: falcon.App[Any, Any], conf: cfg.ConfigOpts, table: Sequence[Route], networking: Networking
) -> None:
    for route in table:
        for prefix in route.prefixes:
            app.add_route(f"{prefix}{route.path}", route.handler, suffix=route.suffix)
    for name in NAMES:
        app.add_route(name, Version())
    app.add_route("/", Versions(conf))
    app.add_route("/openapi.json", OpenApi(lambda: describe(table)))
    if conf.controller_worker.network_driver != NEUTRON:
        local_network.add_routes(app, networking)
    if conf.api_settings.healthcheck_enabled:
        app.add_route("/healthcheck", HealthCheck(conf))


def _layered(app: Wsgi, conf: cfg.ConfigOpts) -> Wsgi:
    """Innermost first: every error has the API's form, and every answer carries a request id."""
    if asks_who(conf):
        app = authenticated(app, conf)
    app = http_proxy_to_wsgi.HTTPProxyToWSGI(cors.CORS(app, conf), conf)
    return measured(request_id.RequestId(errors.in_form(app), conf))
