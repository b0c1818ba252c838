"""Requests to a cloud end with the call that makes them, and only what can do no harm twice is sent again."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from hostile_server import SPOIL_ANSWERS, SPOIL_TLS, Behaviour, hostile, without_end
from hostile_server import silent as silent_server
from keystoneauth1 import exceptions
from keystoneauth1.noauth import NoAuth

from tavia import deadline, pki
from tavia.cloud.openstack import connection, failures
from tavia.cloud.openstack.connection import _Session
from tavia.model.seams import SeamError


class HangsUp:
    """A server that closes the first connection on a request, as one that no longer wanted to keep it; then answers."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                self.requests.append(client.recv(65536).split(b" ", 1)[0].decode())
                if len(self.requests) > 1:
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server() -> Iterator[HangsUp]:
    server = HangsUp()
    yield server
    server.close()


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_be_done_twice_is_sent_again_once(server: HangsUp, method: str) -> None:
    assert _Session(NoAuth()).request(server.url, method).status_code == 200
    assert server.requests == [method, method]


def test_what_may_have_been_made_is_not_made_again(server: HangsUp) -> None:
    with pytest.raises(exceptions.ConnectFailure):
        _Session(NoAuth()).request(server.url, "POST", json={})
    assert server.requests == ["POST"]


def test_a_login_is_sent_again(server: HangsUp) -> None:
    assert _Session(NoAuth()).request(server.url, "POST", json={}, authenticated=False).status_code == 200


def test_a_request_ends_with_its_call_whatever_timeout_is_configured(silent: str) -> None:
    began = time.monotonic()
    with deadline.within(0.5):
        for _ in range(2):
            with pytest.raises(exceptions.ConnectTimeout):
                _Session(NoAuth(), timeout=60).request(silent, "GET")
    assert time.monotonic() - began < 8


def test_a_shorter_timeout_counts(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(exceptions.ConnectTimeout):
        _Session(NoAuth(), timeout=0.3).request(silent, "GET")
    assert time.monotonic() - began < 8


def test_a_call_ends_before_its_step_must() -> None:
    assert connection.LONGEST_CALL + connection.CONNECT <= 30


@pytest.mark.parametrize("behaviour", [silent_server, *SPOIL_ANSWERS])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_that_draws_out_its_answer_ends_with_the_call(behaviour: Behaviour, method: str) -> None:
    began = time.monotonic()
    with (
        hostile(behaviour) as port,
        deadline.within(0.7),
        pytest.raises(SeamError, match="nova-down") as raised,
        failures.told("nova"),
    ):
        _Session(NoAuth()).request(f"http://127.0.0.1:{port}/", method)
    assert time.monotonic() - began < 8
    assert "time" in raised.value.detail


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    directory = tmp_path_factory.mktemp("pki")
    pki.init(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / pki.CLIENT)
    return context


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
@pytest.mark.parametrize("behaviour", [*SPOIL_TLS, *SPOIL_ANSWERS])
def test_so_does_one_with_tls(behaviour: Behaviour, tls: ssl.SSLContext) -> None:
    began = time.monotonic()
    with hostile(behaviour, tls) as port, deadline.within(0.7), pytest.raises(exceptions.ConnectTimeout):
        _Session(NoAuth(), verify=False).request(f"https://127.0.0.1:{port}/", "GET")
    assert time.monotonic() - began < 8


def test_a_handshake_has_the_time_for_connecting_alone(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT", 0.3)
    began = time.monotonic()
    with hostile(SPOIL_TLS[1], tls) as port, pytest.raises(exceptions.ConnectTimeout):
        _Session(NoAuth(), verify=False).request(f"https://127.0.0.1:{port}/", "POST")
    assert time.monotonic() - began < 8


def test_a_call_without_a_deadline_of_ours_has_its_timeout_as_a_whole() -> None:
    began = time.monotonic()
    with hostile(SPOIL_ANSWERS[-1]) as port, pytest.raises(exceptions.ConnectTimeout):
        _Session(NoAuth(), timeout=0.3).request(f"http://127.0.0.1:{port}/", "POST")
    assert time.monotonic() - began < 8


def test_an_answer_without_end_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_ANSWER", 1 << 20)
    with (
        hostile(without_end) as port,
        pytest.raises(SeamError, match="an answer of more than 1048576 bytes"),
        failures.told("neutron"),
    ):
        _Session(NoAuth()).request(f"http://127.0.0.1:{port}/", "GET")


def test_a_name_with_several_addresses_that_are_silent_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """192.0.2.0/24 is nobody's; where there is no route to it the call ends even earlier."""
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 9)) for n in range(1, 6)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    began = time.monotonic()
    with deadline.within(1.0), pytest.raises(exceptions.ClientException):
        _Session(NoAuth()).request("http://silent.example/", "GET")
    assert time.monotonic() - began < 8
