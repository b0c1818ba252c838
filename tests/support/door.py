"""A way to an HTTP service of the cloud that counts what goes through, and that a test may shut.

It belongs to the test alone: others who use the cloud meanwhile notice nothing.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ID = re.compile(r"/[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}(?=[/?.]|$)")
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Door:
    """``url`` leads to the service at ``target``.

    ``requests`` counts (method, path without ids and query), ``answering`` are the times, as of :func:`time.time`, from
    when to when each took.
    """

    def __init__(self, name: str, target: str) -> None:
        self.name = name
        self.requests: Counter[str] = Counter()
        self.answering: list[tuple[float, float]] = []
        self._target = urlsplit(target)
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._trigger: tuple[str, str] | None = None
        self._is_passed_on = False
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._target.path.rstrip('/')}"

    def open(self) -> None:
        """Take connections."""
        server = _Server(("127.0.0.1", self._port), self._handler())
        self._port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        self._server = server

    def shut(self) -> None:
        """Refuse connections, as a service that is down."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Shut for the time of the block."""
        self.shut()
        try:
            yield
        finally:
            self.open()

    @contextmanager
    def falls_shut(self, method: str, path: str, *, is_passed_on: bool) -> Iterator[None]:
        """Shut from the first request of the block with this method and end of a path, until the end of the block.

        That request is not answered: the service never hears of it, or does what it asks where it ``is_passed_on``.
        """
        self._trigger, self._is_passed_on = (method, path), is_passed_on
        try:
            yield
        finally:
            with self._lock:
                self._trigger = None
            self.shut()
            self.open()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            """One connection a request: what is shut is shut at once."""

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    door._pass_on(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing: the count says it."""

        return Handler

    def _triggers(self, kind: str) -> bool:
        """Whether the door falls shut now. Once only."""
        method, _, path = kind.partition(" ")
        if self._trigger is None or method != self._trigger[0] or not path.endswith(self._trigger[1]):
            return False
        self._trigger = None
        return True

    def _pass_on(self, asked: BaseHTTPRequestHandler) -> None:
        kind = f"{asked.command} {_ID.sub('/{id}', asked.path.partition('?')[0])}"
        began = time.time()
        with self._lock:
            self.requests[kind] += 1
            falls_shut = self._triggers(kind)
        if falls_shut and not self._is_passed_on:
            self.shut()
            return
        body = asked.rfile.read(int(asked.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self._target.hostname or "", self._target.port or 80, timeout=120)
        try:
            upstream.putrequest(asked.command, asked.path, skip_host=True, skip_accept_encoding=True)
            for header, value in asked.headers.items():  # Host too: links in answers lead through this door
                if header.lower() not in _HOP:
                    upstream.putheader(header, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
            self.answering.append((began, time.time()))
        if falls_shut:
            self.shut()
            return
        with suppress(OSError):  # a client may have been killed meanwhile
            asked.send_response_only(answer.status, answer.reason)
            for header, value in answer.getheaders():
                if header.lower() not in _HOP:
                    asked.send_header(header, value)
            if answer.status not in (204, 304):
                asked.send_header("Content-Length", str(len(content)))
            asked.send_header("Connection", "close")
            asked.end_headers()
            asked.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A service that is away, or a client: who asks is told by the broken connection."""
