"""The controller's client of one amphora's agent. Workers and the health manager's probes use it.

One call is one try: who calls decides whether and when to try again. Connections are kept alive between calls.
"""

from __future__ import annotations

import json
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
from tavia.metrics.calls import agent_call
from tavia.model.seams import Seam, SeamError

__all__ = ["AgentClient", "AgentFailed", "BundleRefused", "FenceRefused", "TlsRefused", "Unreachable"]

OK = 200
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

    def __init__(self, code: str, message: str) -> None:
        super().__init__(Seam.MGMT_NET, code, message)


class TlsRefused(SeamError):
    """The two sides reach each other and don't trust each other. ``by`` tells who refuses: controller or amphora."""

    def __init__(self, by: str, message: str) -> None:
        super().__init__(Seam.AGENT, f"tls-refused-by-{by}", message)
        self.by = by


class AgentClient:
    """Talks to the agent of ``amphora_id`` at ``address``; timeouts are seconds.

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
        self._where = f"the agent of amphora {amphora_id} at {address} port {port}"
        self._context = _context(client_cert, server_ca)
        self._address = (address, port)
        self._connect_timeout = connect_timeout
        self._pool = urllib3.HTTPSConnectionPool(
            address,
            port,
            timeout=urllib3.Timeout(connect=connect_timeout, read=read_timeout),
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
        try:
            answer = self._pool.request(method, path, body=body)
        except HTTPError as error:
            raise self._explained(error) from error
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise AgentFailed("agent-answer-malformed", f"{self._where} answers {answer.status} without a JSON object")
        if answer.status != OK:
            raise protocol.refused(answer.status, content)
        return content

    def _explained(self, error: HTTPError) -> SeamError:
        cause = error.args[-1] if error.args else error
        match error:
            case HTTPSError():
                return self._tls_refused(cause)
            case NewConnectionError():  # before the next, which it is a kind of
                return self._unreachable(error.__cause__ or error)
            case ConnectTimeoutError():
                return Unreachable("agent-timeout", f"{self._where}: no connection in {self._connect_timeout} s")
            case ReadTimeoutError():
                return Unreachable("agent-answer-timeout", f"{self._where} took the connection and answers nothing")
            case ProtocolError():
                return self._closed(cause)
            case _:
                return Unreachable("agent-connection-failed", f"{self._where}: {error}")

    def _unreachable(self, cause: BaseException) -> Unreachable:
        known = (code for kind, code in ERRNO_CODES.items() if isinstance(cause, kind))
        fallback = "agent-no-route" if isinstance(cause, OSError) else "agent-connection-reset"
        return Unreachable(next(known, fallback), f"{self._where}: {cause}")

    def _tls_refused(self, cause: BaseException) -> SeamError:
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self._closed(cause)
        by = "amphora" if _is_alert(cause) else "controller"
        return TlsRefused(by, f"{self._where}: the {by} refuses the other's certificate or TLS: {cause}")

    def _closed(self, cause: BaseException) -> SeamError:
        """A broken connection, which may be the amphora's refusal of our certificate.

        With TLS 1.3 the refusal comes after our handshake, and its alert may be lost. So connect again and ask nothing:
        an agent that trusts us waits for a request.
        """
        try:
            with (
                socket.create_connection(self._address, self._connect_timeout) as connection,
                self._context.wrap_socket(connection) as tls,
            ):
                tls.settimeout(REFUSAL_SECONDS)
                tls.recv(1)
        except TimeoutError:
            return self._unreachable(cause)
        except OSError as error:
            if not _is_alert(error) and not isinstance(error, ConnectionResetError | ssl.SSLEOFError):
                return self._unreachable(cause)
            cause = error
        why = "as it does when [haproxy_amphora] client_cert has expired or is of another authority"
        return TlsRefused("amphora", f"{self._where}: it ends the connection after the handshake, {why}: {cause}")


def _is_alert(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _context(client_cert: Path, server_ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # urllib3's assert_hostname compares with the amphora's id, not with the address
    try:
        context.load_verify_locations(server_ca)
        context.load_cert_chain(client_cert)
    except OSError as error:
        message = f"server_ca {server_ca} or client_cert {client_cert} cannot be used: {error}"
        raise SeamError(Seam.CONTROL, "controller-certificate-unusable", message) from error
    return context
