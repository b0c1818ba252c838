"""Connections of the API as ``tavia-api`` serves them: no client is left guessing what became of one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest
from controllers import controllers

LARGEST = 114_688
PATH = "/v2/lbaas/loadbalancers"
JSON = {"Content-Type": "application/json"}
CHUNKED = JSON | {"Transfer-Encoding": "chunked"}


@dataclass
class Answer:
    status: int
    connection: str | None
    document: dict[str, str]


class Connection:
    """One to the API, kept for as long as the API keeps it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {headers[name]}" for name in headers)]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def answer(self) -> Answer:
        response = HTTPResponse(self.socket)
        response.begin()
        return Answer(response.status, response.getheader("Connection"), json.loads(response.read() or b"{}"))

    def ask(self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
        self.send(method, path, headers, body)
        return self.answer()

    def has_ended(self) -> bool:
        return self.socket.recv(1) == b""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    directory = tmp_path_factory.mktemp("api")
    with controllers(directory, f"sqlite:///{directory}/tavia.sqlite", apis=1, workers=0) as stand:
        where = urlsplit(stand.url(stand.named("tavia-api")[0]))
        assert where.hostname and where.port
        yield where.hostname, where.port


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[Connection]:
    made = Connection(address)
    yield made
    made.socket.close()


def length(count: int) -> dict[str, str]:
    return JSON | {"Content-Length": str(count)}


def test_a_body_that_was_read_leaves_the_connection_to_the_next_request(connection: Connection) -> None:
    for body in (b"{}", b" " * LARGEST):
        refused = connection.ask("POST", PATH, length(len(body)), body)
        assert (refused.status, refused.connection) == (400, "keep-alive")
    assert connection.ask("POST", PATH, CHUNKED, b"2\r\n{}\r\n0\r\n\r\n").connection == "keep-alive"
    assert connection.ask("GET", PATH).status == 200


@pytest.mark.parametrize("size", [LARGEST + 1, 10_000_000])
def test_a_body_too_large_is_refused_in_words_and_the_connection_ends_as_announced(
    connection: Connection, size: int
) -> None:
    answer = connection.ask("POST", PATH, length(size), b" " * size)
    assert (answer.status, answer.connection) == (413, "close")
    assert answer.document == {
        "faultcode": "Client",
        "faultstring": "The request's body is larger than 114688 bytes.",
        "debuginfo": None,
    }
    assert connection.has_ended()


def test_a_body_too_large_is_refused_before_it_is_sent(connection: Connection) -> None:
    answer = connection.ask("POST", PATH, length(LARGEST + 1))
    assert (answer.status, answer.connection) == (413, "close")


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(connection: Connection) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    answer = connection.ask("POST", PATH, CHUNKED, 8 * chunk)
    assert (answer.status, answer.connection) == (413, "close")
    assert connection.has_ended()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/nothing", {}, 404),
        ("PATCH", PATH, {}, 405),
        ("POST", PATH, {"Accept": "text/html"}, 406),
        ("POST", PATH, {"X-Project-Id": "p" * 40}, 400),
        ("GET", PATH, {}, 200),
    ],
)
def test_an_answer_ahead_of_the_body_says_that_the_connection_ends(
    connection: Connection, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = connection.ask(method, path, length(100_000) | headers, b" " * 10)
    assert (answer.status, answer.connection) == (status, "close")
    assert answer.document
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.has_ended()


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [("GET /" + 9000 * "x", {}, 414), ("GET", {"Content-Length": "many"}, 400), ("GET", {"X": "y" * 9000}, 431)],
)
def test_what_no_application_sees_is_refused_in_the_apis_form(
    connection: Connection, request_line: str, headers: dict[str, str], status: int
) -> None:
    method, _, path = request_line.partition(" ")
    answer = connection.ask(method, path or PATH, headers)
    assert (answer.status, answer.connection) == (status, "close")
    assert answer.document["faultcode"] == "Client"
    assert answer.document["faultstring"]


def test_clients_that_do_not_hang_up_hold_up_nobody(address: tuple[str, int]) -> None:
    lingering = [Connection(address) for _ in range(6)]
    for each in lingering:
        assert each.ask("GET", "/", {"Connection": "close"}).connection == "close"
    began = time.monotonic()
    for _ in range(4):
        assert Connection(address).ask("GET", "/").status == 200
    assert time.monotonic() - began < 1.5
    for each in lingering:
        each.socket.close()
