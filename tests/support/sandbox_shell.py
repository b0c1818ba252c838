"""What a sandbox runs instead of the agent in the tests of the local cloud: TCP 9443 executes the line it is sent."""

from __future__ import annotations

import os
import socketserver
import subprocess
from pathlib import Path

PORT = 9443


class _Shell(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        command = self.rfile.readline().decode()
        result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        self.wfile.write(f"{result.stdout}{result.stderr}".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def run(config: Path) -> None:
    """Each start is noted on the disk; a file "die" beside the configuration makes it end at once."""
    with Path("/var/lib/tavia/starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if not (config.parent / "die").exists():
        _Server(("0.0.0.0", PORT), _Shell).serve_forever()
