"""Counts and times every request, from outside of all layers: refusals of a layer count too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import falcon

from tavia.metrics import api as metrics
from tavia.metrics import labels

ROUTE = "tavia.route"
"""Where the WSGI environment says which route was taken."""

Wsgi = Callable[..., Any]


class Routing:
    """Falcon middleware: notes the route. ``names`` leads from a route's template to the one it is counted under."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object) -> None:
        """Called where a route fits."""
        template = req.uri_template or "none"
        req.env[ROUTE] = self._names.get(template, template)


def measured(app: Wsgi) -> Wsgi:
    """The outermost layer."""

    def layer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        began, statuses = time.monotonic(), []

        def start(status: str, *rest: Any) -> Any:
            statuses.append(status[:3])
            return start_response(status, *rest)

        metrics.IN_PROGRESS.inc()
        try:
            return app(environ, start)
        finally:
            metrics.IN_PROGRESS.dec()
            route, method = environ.get(ROUTE, "none"), labels.method(environ["REQUEST_METHOD"])
            metrics.REQUESTS.labels(route, method, statuses[-1] if statuses else "500").inc()
            metrics.SECONDS.labels(route, method).observe(time.monotonic() - began)

    return layer
