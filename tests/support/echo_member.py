"""A member: answers each request with what it saw. usage: echo_member.py NAME DIRECTORY ADDRESS PORT COOKIE

``{"member": NAME, "head": all that came before the empty line}``, a PROXY header before the request included, with
COOKIE set to ``of-NAME``; 503 while DIRECTORY/NAME.down exists. DIRECTORY/NAME.last is the last request.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
from pathlib import Path

NAME, DIRECTORY, ADDRESS, PORT, COOKIE = sys.argv[1:]


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        down = Path(DIRECTORY, f"{NAME}.down").exists()
        said = json.dumps({"member": NAME, "head": head.decode("latin-1")}).encode()
        status = "503 Down" if down else "200 OK"
        session = f"Set-Cookie: {COOKIE}=of-{NAME}"
        fields = f"HTTP/1.1 {status}\r\n{session}\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n"
        Path(DIRECTORY, f"{NAME}.last").write_bytes(head)
        self.wfile.write(fields.encode() + said)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    address_family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET


Server((ADDRESS, int(PORT)), Handler).serve_forever()
