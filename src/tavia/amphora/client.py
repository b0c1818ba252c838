"""The controller's client of one amphora's agent. Workers and the health manager's probes use it.

One call is one try: who calls decides whether and when to try again. Connections are kept alive between calls.

An amphora that was broken into answers what it likes, as slowly and as much as it likes: a call has one deadline and
its answer one size as a whole, and no value of it is taken as it comes.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as HTTPSError

from tavia.amphora import protocol
from tavia.amphora.bundle import Bundle
from tavia.amphora.protocol import AgentFailed, AgentStatus, Applied, BundleRefused, FenceRefused
from tavia.deadline import left, within
from tavia.deadline.http import BoundedTls, HandshakeTimeout, HttpsPool
from tavia.metrics.calls import agent_call
from tavia.model.seams import Seam, SeamError

__all__ = ["AgentClient", "AgentFailed", "BundleRefused", "FenceRefused", "TlsRefused", "Unreachable"]

OK = 200
MOST_ANSWER = 1 << 20
"""The most bytes that an answer may have: a thousand times what a status has, and room for much that HAProxy says."""
MOST_WORDS = 16_000
"""Characters of an agent's message that are passed on: the journal has 64 KiB for them."""
CODE = re.compile(r"[a-z0-9-]{1,64}")
"""What a code may be: the journal has 64 characters for it."""
REFUSAL_SECONDS = 1.0
"""Within this time after the handshake an agent has refused us if it is going to."""
ERRNO_CODES: dict[type[OSError], str] = {
    ConnectionRefusedError: "agent-connect-refused",
    ConnectionResetError: "agent-connection-reset",
    BrokenPipeError: "agent-connection-reset",
    TimeoutError: "agent-timeout",
}


class Unreachable(SeamError):
    """Nothing answers at the agent's address.

    Codes: agent-connect-refused, agent-connection-reset, agent-timeout, agent-no-route, and agent-answer-timeout for
    an agent that takes the connection and then is silent.
    """

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        super().__init__(Seam.MGMT_NET, code, message, detail=detail)


class TlsRefused(SeamError):
    """The two sides reach each other and don't trust each other. ``by`` tells who refuses: controller or amphora."""

    def __init__(self, by: str, message: str, detail: str = "") -> None:
        super().__init__(Seam.AGENT, f"tls-refused-by-{by}", message, detail=detail)
        self.by = by


class AgentClient:
    """Talks to the agent of ``amphora_id`` at ``address``; timeouts are seconds.

    Connecting, with TLS, takes ``connect_timeout`` at most, a call as a whole both together, however it is answered.
    The certificate that the agent shows must come from ``server_ca`` and name the amphora's id. Raises SeamError
    (control, controller-certificate-unusable) when ours cannot be read. Every method raises Unreachable, TlsRefused or
    AgentFailed; ``put_bundle`` FenceRefused and BundleRefused as well.
    """

    def __init__(
        self,
        address: str,
        port: int,
        amphora_id: str,
        *,
        client_cert: Path,
        server_ca: Path,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self._who = f"the agent of amphora {amphora_id}"
        self._where = f"at {address} port {port}"
        self._context = _context(client_cert, server_ca)
        self._address = (address, port)
        self._connect_timeout = connect_timeout
        self._longest = connect_timeout + read_timeout
        self._pool = HttpsPool(
            address,
            port,
            timeout=urllib3.Timeout(connect=connect_timeout, read=self._longest),
            maxsize=1,
            retries=False,
            ssl_context=self._context,
            assert_hostname=amphora_id,
        )

    def status(self) -> AgentStatus:
        """What the agent holds and runs."""
        return protocol.agent_status(self._call("GET", "/status"))

    def put_bundle(self, bundle: Bundle) -> Applied:
        """Have a bundle applied. On return it is on the amphora's disk and in force."""
        return protocol.applied(self._call("PUT", "/bundle", bundle.to_json()))

    def put_certificate(self, pem: bytes) -> None:
        """Replace the agent's own certificate and key; connections made from then on see it."""
        self._call("PUT", "/certificate", pem)

    def put_config(self, text: str) -> None:
        """Replace the agent's configuration (:func:`tavia.amphora.agent_config.render_agent_config`)."""
        self._call("PUT", "/config", text.encode())

    def close(self) -> None:
        """Drop the connections."""
        self._pool.close()

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        with agent_call(path.strip("/")):
            return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        with within(self._longest):
            try:
                answer = self._pool.request(
                    method, path, body=body, redirect=False, preload_content=False, decode_content=False
                )
                data = answer.read(MOST_ANSWER + 1)
            except (HTTPError, TimeoutError) as error:
                raise self._explained(error) from error
            if len(data) > MOST_ANSWER:
                answer.close()
                raise AgentFailed("agent-answer-too-large", f"{self._who} answers more than {MOST_ANSWER} bytes")
        content = _json_object(data)
        if content is None:
            raise AgentFailed("agent-answer-malformed", f"{self._who} answers {answer.status} without a JSON object")
        if answer.status != OK:
            raise _refused(answer.status, content)
        return content

    def _explained(self, error: HTTPError | TimeoutError) -> SeamError:
        cause = error.args[-1] if error.args else error
        match error:
            case HandshakeTimeout() | ReadTimeoutError() | TimeoutError():  # the first is a ConnectTimeoutError too
                return self._too_slow(error)
            case HTTPSError():
                return self._tls_refused(cause)
            case NewConnectionError():  # before the next, which it is a kind of
                return self._unreachable(error.__cause__ or error)
            case ConnectTimeoutError():
                message = f"{self._who}: no connection in {self._connect_timeout} s"
                return Unreachable("agent-timeout", message, self._where)
            case ProtocolError():
                return self._closed(cause)
            case _:
                return Unreachable("agent-connection-failed", f"{self._who}: no connection", f"{self._where}: {error}")

    def _too_slow(self, error: Exception) -> Unreachable:
        words = f"gave no whole answer in {self._longest} s"
        if isinstance(error, HandshakeTimeout):
            words = f"did not finish TLS in {self._connect_timeout} s"
        return Unreachable("agent-answer-timeout", f"{self._who} took the connection and {words}", self._where)

    def _unreachable(self, cause: BaseException) -> Unreachable:
        known = (code for kind, code in ERRNO_CODES.items() if isinstance(cause, kind))
        fallback = "agent-no-route" if isinstance(cause, OSError) else "agent-connection-reset"
        return Unreachable(next(known, fallback), f"{self._who}: no connection", f"{self._where}: {cause}")

    def _tls_refused(self, cause: BaseException) -> SeamError:
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self._closed(cause)
        by = "amphora" if _is_alert(cause) else "controller"
        message = f"{self._who}: the {by} refuses the other's certificate or TLS"
        return TlsRefused(by, message, f"{self._where}: {cause}")

    def _closed(self, cause: BaseException) -> SeamError:
        """A broken connection, which may be the amphora's refusal of our certificate.

        With TLS 1.3 the refusal comes after our handshake, and its alert may be lost. So connect again and ask nothing:
        an agent that trusts us waits for a request.
        """
        try:
            with (
                within(self._connect_timeout + REFUSAL_SECONDS),
                socket.create_connection(self._address, min(self._connect_timeout, left())) as connection,
                self._context.wrap_socket(connection) as tls,
                within(REFUSAL_SECONDS),
            ):
                tls.recv(1)
        except TimeoutError:
            return self._unreachable(cause)
        except OSError as error:
            if not _is_alert(error) and not isinstance(error, ConnectionResetError | ssl.SSLEOFError):
                return self._unreachable(cause)
            cause = error
        why = "as it does when [haproxy_amphora] client_cert has expired or is of another authority"
        message = f"{self._who}: it ends the connection after the handshake, {why}"
        return TlsRefused("amphora", message, f"{self._where}: {cause}")


def _is_alert(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _json_object(data: bytes) -> dict[str, Any] | None:
    """None for what is none, or holds what is no Unicode: that would fail later, where it is written down."""
    try:
        content = json.loads(data)
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _refused(status: int, content: dict[str, Any]) -> SeamError:
    """The refusal in an answer, in words and with a code that can be written down."""
    code, message = content.get("code"), str(content.get("message", f"HTTP status {status}"))
    known = isinstance(code, str) and CODE.fullmatch(code)
    said = {**content, "code": code if known else "agent-failed", "message": message[:MOST_WORDS]}
    try:
        error = protocol.refused(status, said)
    except (ValueError, AttributeError):
        error = None
    line = getattr(error, "line", None)
    if error is None or not CODE.fullmatch(error.code) or not (line is None or type(line) is int):
        return AgentFailed("agent-answer-malformed", f"HTTP status {status} with details that cannot be")
    return error


def _context(client_cert: Path, server_ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = BoundedTls
    context.check_hostname = False  # urllib3's assert_hostname compares with the amphora's id, not with the address
    try:
        context.load_verify_locations(server_ca)
        context.load_cert_chain(client_cert)
    except OSError as error:
        message = "[haproxy_amphora] server_ca or client_cert cannot be used"
        detail = f"{server_ca}, {client_cert}: {error}"
        raise SeamError(Seam.CONTROL, "controller-certificate-unusable", message, detail=detail) from error
    return context
