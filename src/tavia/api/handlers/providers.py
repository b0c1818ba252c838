"""The providers that users may choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import parse_qs

import falcon

from tavia.api.access import access_of
from tavia.api.handlers.common import LBAAS, Backend, Paths
from tavia.api.views import only


class Providers:
    """/providers"""

    policy_word = "provider"
    prefixes: ClassVar[Sequence[str]] = LBAAS
    paths: ClassVar[Paths] = {"/providers": None}

    def __init__(self, backend: Backend) -> None:
        self._enabled: dict[str, str] = backend.conf.api_settings.enabled_provider_drivers

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Their names, each with its description."""
        access = access_of(req)
        access.check(access.project_id)
        fields = parse_qs(req.query_string).get("fields", [])
        resp.media = {
            "providers": [
                only({"name": name, "description": description}, fields) for name, description in self._enabled.items()
            ]
        }
