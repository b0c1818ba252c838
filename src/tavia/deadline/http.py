"""Connections of urllib3 that keep the deadline of :mod:`tavia.deadline`: agents and OpenStack's services are asked so.

A pool manager takes :data:`POOLS`. A TLS context of one's own needs ``sslsocket_class = BoundedTls``.
"""

from __future__ import annotations

import math
import socket
import ssl
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from tavia.deadline import left, within


class HandshakeTimeout(ConnectTimeoutError):
    """The other side took the connection and did not finish the TLS handshake in time."""


class BoundedTcp(socket.socket):
    """A socket that waits no longer than the call under way may."""

    def recv(self, *args: Any) -> bytes:
        """See socket."""
        self._bound()
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        """See socket."""
        self._bound()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """See socket."""
        self._bound()
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        """See socket."""
        self._bound()
        super().sendall(*args)

    def _bound(self) -> None:
        seconds = left()
        if seconds < math.inf:
            self.settimeout(seconds)


class BoundedTls(BoundedTcp, ssl.SSLSocket):
    """The same with TLS. Python's handshake has one timeout as a whole."""

    def do_handshake(self, block: bool = False) -> None:
        """See ssl.SSLSocket."""
        self._bound()
        super().do_handshake(block)


class _Http(HTTPConnection):
    """Its addresses share the time for connecting: urllib3 gives it to each of them anew."""

    def _new_conn(self) -> socket.socket:
        whole = self.timeout
        try:
            addresses = socket.getaddrinfo(self.host.strip("[]"), self.port, type=socket.SOCK_STREAM)
            seconds = left() if whole is None else min(float(whole), left())
            self.timeout = seconds / len(addresses) if seconds < math.inf else None
        except TimeoutError as error:
            raise ConnectTimeoutError(self, str(error)) from error
        except OSError:
            pass  # urllib3 says better what is wrong with the name
        try:
            plain = super()._new_conn()
        finally:
            self.timeout = whole
        return BoundedTcp(plain.family, plain.type, plain.proto, fileno=plain.detach())


class _Https(_Http, HTTPSConnection):
    def connect(self) -> None:
        """TCP and TLS together have the time for connecting."""
        if self.ssl_context is None:
            self.ssl_context = create_urllib3_context(cert_reqs=resolve_cert_reqs(self.cert_reqs))
            self.ssl_context.sslsocket_class = BoundedTls
        with within(math.inf if self.timeout is None else float(self.timeout)):
            try:
                super().connect()
            except TimeoutError as error:
                raise HandshakeTimeout(self, "the TLS handshake was not finished in time") from error


class HttpPool(HTTPConnectionPool):
    """Of bounded connections."""

    ConnectionCls = _Http


class HttpsPool(HTTPSConnectionPool):
    """Of bounded connections."""

    ConnectionCls = _Https


POOLS = {"http": HttpPool, "https": HttpsPool}
"""For ``PoolManager.pool_classes_by_scheme``."""
