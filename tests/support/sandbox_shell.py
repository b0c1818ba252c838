"""What a sandbox runs instead of the agent in the tests of the local cloud: TCP 9443 executes the line it is sent.

The line is run where an agent is: on the tenants' side of the sandbox, while 9443 is on the management side.
"""

from __future__ import annotations

import os
import socketserver
import subprocess
from pathlib import Path

from tavia.agent import systemd

PORT = 9443


class _Shell(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        command = self.rfile.readline().decode()
        result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        self.wfile.write(f"{result.stdout}{result.stderr}".encode())


def run(config: Path) -> None:
    """Each start is noted on the disk; a file "die" beside the configuration makes it end at once."""
    with Path("/var/lib/tavia/starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if not (config.parent / "die").exists():
        server = socketserver.ThreadingTCPServer(("", 0), _Shell, bind_and_activate=False)
        server.socket = systemd.passed_sockets()[0]
        server.socket.setblocking(True)
        server.serve_forever()
