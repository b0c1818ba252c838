"""A way to MariaDB that breaks at the worst moment: in the middle of a COMMIT."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from enum import Enum

from mariadb import MariaDb, name_of

COMMIT = b"\x03COMMIT"


class Cut(Enum):
    """What becomes of a COMMIT; the connection breaks each time."""

    ANSWER = "the server commits, its answer is lost"
    COMMIT = "the COMMIT never arrives"
    LATE = "the COMMIT arrives when the client has given up long ago"


class Wire:
    """A TCP proxy in front of a server. ``cuts`` are taken from the front, one for each COMMIT that has something.

    New connections go to ``server``, which a test may exchange.
    """

    def __init__(self, server: MariaDb) -> None:
        self.cuts: list[Cut] = []
        self.done: list[Cut] = []
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def through(self, url: str) -> str:
        """The same database, by this way."""
        return self.server.url(name_of(url)).replace(f":{self.server.port}/", f":{self.port}/")

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.server.port))
        with client, server, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            has_written = False  # a new connection commits nothing when it sets itself up
            while True:
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        return
                    has_written |= source is client and data[5:11] in (b"INSERT", b"UPDATE")
                    if source is client and COMMIT in data and has_written and self.cuts:
                        self._cut(self.cuts.pop(0), data, client, server)
                        return
                    sink.sendall(data)

    def _cut(self, cut: Cut, commit: bytes, client: socket.socket, server: socket.socket) -> None:
        self.done.append(cut)  # first: who waits for this COMMIT goes on as soon as it arrives
        if cut is Cut.ANSWER:
            server.sendall(commit)
            server.recv(65536)
        elif cut is Cut.LATE:
            client.shutdown(socket.SHUT_RDWR)
            client.close()
            time.sleep(1.0)  # the point of it: the other run is under way by then
            server.sendall(commit)
            server.recv(65536)


@contextlib.contextmanager
def wire(server: MariaDb) -> Iterator[Wire]:
    """A way to this server."""
    made = Wire(server)
    try:
        yield made
    finally:
        made.close()
