"""One of the two systems that are compared: its API, its processes, its database and the user as whom it connects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import urllib3

Json = dict[str, Any]

PATIENCE = 300.0
"""Seconds after which something awaited is a failure."""


@dataclass
class Side:
    """``user`` is who it is to MariaDB; ``roots`` are the processes from which all its others descend."""

    name: str
    user: str
    connection: str
    url: str = ""
    roots: Sequence[int] = ()
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=64, timeout=PATIENCE, retries=False)
    )

    def began(self, url: str, roots: Sequence[int]) -> None:
        """It was started; return when its API answers at ``url``. Raises RuntimeError when a process ends instead."""
        self.url, self.roots = url, roots
        while not self._answers():
            if psutil.STATUS_ZOMBIE in [psutil.Process(root).status() for root in roots]:
                raise RuntimeError(f"{self.name} does not start")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/lbaas/loadbalancers?limit=1").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def request(self, method: str, path: str, body: Json | None = None) -> urllib3.BaseHTTPResponse:
        """Whatever the API answers; ``path`` begins after ``/v2.0``."""
        return self.http.request(method, f"{self.url}/v2.0{path}", json=body)

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """What the API answers. Raises RuntimeError when it refuses."""
        answer = self.request(method, path, body)
        if answer.status >= 400:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer.status} {answer.data.decode()}")
        found: Json = answer.json()
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all its processes since they began."""
        return sum(
            cpu_seconds(process)
            for root in map(psutil.Process, self.roots)
            for process in (root, *root.children(recursive=True))
        )


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and of those children that ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
