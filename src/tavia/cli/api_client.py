"""The demonstration's side of the API: JSON over HTTP, no OpenStack client needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import urllib3

from tavia.model.seams import Seam, SeamError

Json = dict[str, Any]

_BAD_REQUEST = 400


class ApiClient:
    """Octavia's v2 API at ``url``."""

    def __init__(self, url: str) -> None:
        self._root = f"{url}/v2.0"
        self._pool = urllib3.PoolManager(timeout=30.0, retries=False)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Raises SeamError with the API's own words when it refuses or does not answer."""
        try:
            answer = self._pool.request(method, f"{self._root}{path}", json=body)
        except urllib3.exceptions.HTTPError as error:
            raise SeamError(Seam.CONTROL, "api-unreachable", f"{method} {path}: {error}") from error
        if answer.status >= _BAD_REQUEST:
            raise SeamError(Seam.CONTROL, "api-refused", f"{method} {path}: {answer.status} {answer.data.decode()}")
        found: Json = answer.json() if answer.data else {}
        return found

    def find_or_create(self, collection: str, word: str, body: Mapping[str, Any], parent: str = "/lbaas") -> Json:
        """The object of this name, made from ``body`` when there is none. ``word`` is its root word in bodies."""
        path = f"{parent}/{collection}"
        found: list[Json] = self.call("GET", f"{path}?name={body['name']}")[collection]
        made: Json = found[0] if found else self.call("POST", path, {word: body})[word]
        return made
