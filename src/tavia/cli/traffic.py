"""The demonstration's traffic, each side a process in a network namespace: ``python -m tavia.cli.traffic``.

``serve NAME PORT`` answers every GET with its name. ``ask ADDRESS PORT COUNT`` sends that many GETs, each on a
connection of its own, and prints as JSON how many each name answered and how long an answer took. Standard library
only: it starts fast.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

TIMEOUT = 2.0


def serve(name: str, port: int) -> None:
    """Answer for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = f"{name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Health checks come every second: nothing worth a line."""

    # HTTPServer would ask DNS for its own name, which no server answers in a namespace of its own.
    ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
    ThreadingTCPServer(("", port), Handler).serve_forever()


def ask(address: str, port: int, count: int) -> dict[str, Any]:
    """``answers`` by name, how many ``failed``, and the median ``milliseconds`` of an answer (None without any)."""
    answers: Counter[str] = Counter()
    times = []
    for _ in range(count):
        started = time.monotonic()
        connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            if response.status == http.HTTPStatus.OK:
                answers[response.read().decode().strip()] += 1
                times.append(1000 * (time.monotonic() - started))
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return {
        "answers": dict(answers),
        "failed": count - answers.total(),
        "milliseconds": statistics.median(times) if times else None,
    }


def main(argv: list[str]) -> None:
    """See the module."""
    match argv:
        case ["serve", name, port]:
            serve(name, int(port))
        case ["ask", address, port, count]:
            sys.stdout.write(json.dumps(ask(address, int(port), int(count))))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
