"""Connections of the API's clients that they keep."""

from __future__ import annotations

import select
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from controllers import controllers

GUNICORNS_OWN = 2.0
"""Seconds after which it closes an idle connection where it is told nothing else."""


def ask(client: HTTPConnection) -> int:
    client.request("GET", "/v2.0/lbaas/loadbalancers?limit=1")
    answer = client.getresponse()
    answer.read()
    return answer.status


def test_an_idle_connection_stays_open_and_does_not_hold_up_the_end(tmp_path: Path, connection: str) -> None:
    with controllers(tmp_path, connection, apis=1, workers=0) as stand:
        (api,) = stand.named("tavia-api")
        client = HTTPConnection(urlsplit(stand.url(api)).netloc, timeout=30)
        assert ask(client) == 200
        closed, _, _ = select.select([client.sock], [], [], 2 * GUNICORNS_OWN)
        assert not closed
        assert ask(client) == 200
        began = time.monotonic()
        assert api.stop() == 0
        assert time.monotonic() - began < 10
        client.close()
