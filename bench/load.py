"""wrk, and what it counted."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.stand import VIP_PORT, Stand, ended

LONGEST = 3600
"""Seconds after which wrk ends by itself."""


@dataclass(frozen=True, slots=True)
class Load:
    """``failed``: refused, reset, closed early, timed out (2 s), or answered with something else than 2xx or 3xx."""

    requests: int
    failed: int
    per_second: float


@contextmanager
def running(
    stand: Stand, address: str, *, connections: int, keep_alive: bool = True, seconds: int = LONGEST
) -> Iterator[subprocess.Popen[str]]:
    """wrk at full speed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    header = () if keep_alive else ("-H", "Connection: close")
    url = f"http://{address}:{VIP_PORT}/"
    process = stand.client("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *header, url)
    with ended(process):
        yield process


def finish(process: subprocess.Popen[str], *, now: bool = True) -> Load:
    """End it, or wait for its end; what it counted."""
    if now:
        process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60.0)
    failures = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    counts = [*(failures.groups() if failures else ()), *(refused.groups() if refused else ())]
    return Load(
        requests=int(_found(r"(\d+) requests in", said)),
        failed=sum(map(int, counts)),
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", said)),
    )


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    if match is None:
        raise RuntimeError(f"wrk said: {said}")
    return match[1]
