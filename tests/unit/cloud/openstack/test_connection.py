"""Requests to a cloud end with the call that makes them, and only what can do no harm twice is sent again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from keystoneauth1 import exceptions
from keystoneauth1.noauth import NoAuth

from tavia.cloud.openstack import connection
from tavia.cloud.openstack.connection import _deadline, _Session


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
    token = _deadline.set(time.monotonic() + 0.5)
    began = time.monotonic()
    try:
        for _ in range(2):
            with pytest.raises(exceptions.ConnectTimeout):
                _Session(NoAuth(), timeout=60).request(silent, "GET")
    finally:
        _deadline.reset(token)
    assert time.monotonic() - began < 2


def test_a_shorter_timeout_counts(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(exceptions.ConnectTimeout):
        _Session(NoAuth(), timeout=0.3).request(silent, "GET")
    assert time.monotonic() - began < 2


def test_a_call_ends_before_its_step_must() -> None:
    assert connection.LONGEST_CALL + connection.CONNECT <= 30
