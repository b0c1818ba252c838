"""Requests of the API. Its processes share these through files, see :mod:`tavia.metrics.serving`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "tavia_api_requests", "Requests answered; the route is a template (none where no route fits), never a path.",
    ["route", "method", "status"],
)  # fmt: skip
SECONDS = Histogram(
    "tavia_api_request_seconds",
    "Seconds until a request was answered.",
    ["route", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
IN_PROGRESS = Gauge("tavia_api_requests_in_progress", "Requests being answered now.", multiprocess_mode="livesum")
