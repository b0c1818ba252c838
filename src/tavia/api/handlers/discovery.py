"""What a client asks before it asks for anything: versions, health, the OpenAPI description. No token is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import falcon
import webob  # type: ignore[import-untyped]
from oslo_config import cfg
from oslo_middleware import healthcheck

_UPDATED = (
    *("2016-12-11", "2018-04-20", "2018-07-31", "2018-12-18", "2018-12-19", "2019-01-21", "2019-01-25"),
    *("2018-01-25T12", "2019-02-12", "2019-03-04", "2019-03-05", "2019-06-24", "2019-09-11", "2019-09-13"),
    *("2019-11-10", "2020-03-10", "2020-03-15", "2020-04-29", "2020-04-29T01", "2020-05-12", "2020-08-02"),
    *("2020-09-03", "2020-09-04", "2020-09-07", "2020-10-15", "2021-10-02", "2022-08-29", "2023-05-05"),
    *("2023-11-08", "2024-10-15", "2025-02-26"),
)
"""When each minor version of the API v2 came (api-surface, "Discovery"): clients look for features by version."""


class Versions:
    """/"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._base: str | None = conf.api_settings.api_base_uri

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All versions, the last one current."""
        base = self._base.rstrip("/") if self._base else req.prefix
        last = len(_UPDATED) - 1
        resp.media = {
            "versions": [
                {
                    "id": f"v2.{minor}",
                    "status": "CURRENT" if minor == last else "SUPPORTED",
                    "updated": f"{day if 'T' in day else day + 'T00'}:00:00Z",
                    "links": [{"href": f"{base}/v2", "rel": "self"}],
                }
                for minor, day in enumerate(_UPDATED)
            ]
        }


class Version:
    """/v2 and the like"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The API's name."""
        resp.media = "v2"


class OpenApi:
    """/openapi.json, made when it is first asked for: few ask, and it costs more than all else at the start."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe

    @cached_property
    def _document(self) -> dict[str, Any]:
        return self._describe()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The description of this API in OpenAPI 3.1."""
        resp.media = self._document


class HealthCheck:
    """/healthcheck, by oslo.middleware's checks and options."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._checks = healthcheck.Healthcheck(None, conf)
        self._refresh: float = conf.api_settings.healthcheck_refresh_interval
        self._answers: dict[tuple[str, str], tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What the checks say: JSON where the client takes that, otherwise no text when all is well."""
        answer = self._answer(req)
        if answer.status_code < 300 and not answer.body:  # noqa: PLR2004
            resp.status = falcon.HTTP_204
            return
        resp.status, resp.content_type, resp.data = answer.status, answer.content_type, answer.body

    on_head = on_get

    def _answer(self, req: falcon.Request) -> Any:
        asked = (req.method, req.accept)
        with self._lock:
            until, answer = self._answers.get(asked, (0.0, None))
            if time.monotonic() >= until:
                self._answers = {k: v for k, v in self._answers.items() if v[0] > time.monotonic()}
                answer = self._checks.process_request(webob.Request(req.env))
                self._answers[asked] = (time.monotonic() + self._refresh, answer)
            return answer
