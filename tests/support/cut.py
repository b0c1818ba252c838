"""A way to MariaDB on which the worst happens at the worst moment: a COMMIT is lost, or answered with an error."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from mariadb import MariaDb, name_of

COMMIT = b"\x03COMMIT"


class Cut(Enum):
    """What becomes of a COMMIT; the connection breaks each time."""

    ANSWER = "the server commits, its answer is lost"
    COMMIT = "the COMMIT never arrives"
    LATE = "the COMMIT arrives when the client has given up long ago"


@dataclass(frozen=True)
class Refusal:
    """A COMMIT that the server itself answers with an error; the connection stays.

    ``is_done``: it was committed all the same.
    """

    code: int
    message: str
    is_done: bool = False

    @property
    def is_sure(self) -> bool:
        """Whether MariaDB says by it that nothing of the transaction is there."""
        return self.code in {1020, 1205, 1213}

    def __str__(self) -> str:
        return f"{self.code}{', done all the same' if self.is_done else ''}"


SAID = {
    1020: "Record has changed since last read in table",
    1040: "Too many connections",
    1047: "WSREP has not yet prepared node for application use",
    1053: "Server shutdown in progress",
    1180: "Got error 149 during COMMIT",
    1205: "Lock wait timeout exceeded; try restarting transaction",
    1213: "Deadlock found when trying to get lock; try restarting transaction",
    1317: "Query execution was interrupted",
    1927: "Connection was killed",
}
"""MariaDB's own words for the errors after which a transaction may go well, by their codes."""


def refusals() -> list[Refusal]:
    """Every way in which MariaDB can answer a COMMIT with one of these errors."""
    refused = [Refusal(code, message) for code, message in SAID.items()]
    return refused + [replace(one, is_done=True) for one in refused if not one.is_sure]


class Wire:
    """A TCP proxy in front of a server. ``cuts`` are taken from the front, one for each COMMIT that has something.

    New connections go to ``server``, which a test may exchange.
    """

    def __init__(self, server: MariaDb) -> None:
        self.cuts: list[Cut | Refusal] = []
        self.done: list[Cut | Refusal] = []
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
                        cut = self.cuts.pop(0)
                        if isinstance(cut, Cut):
                            self._cut(cut, data, client, server)
                            return
                        data, has_written = self._refused(cut, data, server), False
                    sink.sendall(data)

    def _refused(self, refusal: Refusal, commit: bytes, server: socket.socket) -> bytes:
        """What is to be sent in place of the COMMIT. Where it was not done, the server still has it open then."""
        self.done.append(refusal)
        if refusal.is_done:
            server.sendall(commit)
            server.recv(65536)
        signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {refusal.code}, MESSAGE_TEXT = '{refusal.message}'"
        statement = b"\x03" + signal.encode()
        return len(statement).to_bytes(3, "little") + b"\x00" + statement

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
