"""Servers that keep who asks them waiting, in every phase of a call: on real sockets of loopback, with real TLS.

    with hostile(tls, in_body) as port: ...

A behaviour is called with the connection; with ``tls`` it comes after the handshake, but for those that spoil it.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

DRIP = 0.1
"""Seconds between two bytes: shorter than any timeout for a receive."""
LONGEST = 20.0
"""Seconds after which a server gives up: a call that is still waiting has no deadline."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Behaviour = Callable[[socket.socket, ssl.SSLContext | None], None]


@contextmanager
def hostile(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, behaviour, tls), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_behave, args=(connection, behaviour, tls), daemon=True).start()


def _behave(connection: socket.socket, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError), connection:
        connection.settimeout(LONGEST)
        behaviour(connection, tls)


def drip(connection: socket.socket, data: bytes = b"", filler: bytes = b"x") -> None:
    """Send ``data``, then ``filler`` for ever, a byte at a time."""
    end = time.monotonic() + LONGEST
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(DRIP)
    while time.monotonic() < end:
        connection.sendall(filler)
        time.sleep(DRIP)


def silent(connection: socket.socket, _tls: ssl.SSLContext | None) -> None:
    """Take the connection and say nothing."""
    time.sleep(LONGEST)


def in_handshake(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """The server's side of a true handshake, a byte at a time."""
    assert tls
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = tls.wrap_bio(arriving, leaving, server_side=True)
    arriving.write(connection.recv(65536))
    with suppress(ssl.SSLWantReadError):
        end.do_handshake()
    drip(connection, leaving.read())


def in_a_record(connection: socket.socket, _tls: ssl.SSLContext | None) -> None:
    """The head of a TLS record of 16 KiB, and then its bytes."""
    drip(connection, b"\x16\x03\x03\x40\x00")


def _asked(connection: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    secure = tls.wrap_socket(connection, server_side=True) if tls else connection
    secure.recv(65536)
    return secure


def after_the_request(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Not a byte of an answer."""
    with _asked(connection, tls):
        time.sleep(LONGEST)


def in_status_line(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    with _asked(connection, tls) as secure:
        drip(secure, b"HTTP/1.1 ", b"2")


def in_headers(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    with _asked(connection, tls) as secure:
        secure.sendall(HEAD)
        drip(secure, b"X-Slow: ")


def in_endless_headers(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """100 Continue, for ever."""
    with _asked(connection, tls) as secure:
        drip(secure, filler=b"HTTP/1.1 100 Continue\r\n\r\n")


def in_body(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    with _asked(connection, tls) as secure:
        secure.sendall(HEAD + b"Content-Length: 100000\r\n\r\n{")
        drip(secure, filler=b" ")


def in_chunks(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    with _asked(connection, tls) as secure:
        secure.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        drip(secure, filler=b"1\r\n \r\n")


def without_end(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """A body as large and as fast as it is taken."""
    end = time.monotonic() + LONGEST
    with _asked(connection, tls) as secure:
        secure.sendall(HEAD + b"\r\n{")
        while time.monotonic() < end:
            secure.sendall(b" " * 65536)


def without_reading(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Read a request a byte at a time."""
    end = time.monotonic() + LONGEST
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with tls.wrap_socket(connection, server_side=True) if tls else connection as secure:
        while time.monotonic() < end:
            secure.recv(1)
            time.sleep(DRIP)


SPOIL_TLS: tuple[Behaviour, ...] = (silent, in_handshake, in_a_record)
SPOIL_ANSWERS: tuple[Behaviour, ...] = (
    after_the_request, in_status_line, in_headers, in_endless_headers, in_body, in_chunks,
)  # fmt: skip
