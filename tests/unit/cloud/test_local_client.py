"""The local cloud's daemon may be slow or endless: a call has one deadline and its answer one size."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hostile_server import drip

from tavia.cloud.local import client as clients
from tavia.cloud.local.client import LocalClient
from tavia.model.seams import SeamError


@contextmanager
def daemon(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[LocalClient]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    behave(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield LocalClient(path)


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b" " * 65536)


def test_an_answer_that_drips_ends_with_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_TIMEOUT", 0.5)
    began = time.monotonic()
    with daemon(tmp_path / "socket", drip) as cloud, pytest.raises(SeamError, match="networks was not answered"):
        cloud.networks()
    assert time.monotonic() - began < 8


def test_an_answer_without_end_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_MOST_ANSWER", 1 << 20)
    with daemon(tmp_path / "socket", endless) as cloud, pytest.raises(SeamError, match="more than 1048576 bytes"):
        cloud.networks()


def test_an_answer_in_many_parts_is_one(tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'{"result": ')
        time.sleep(0.05)
        connection.sendall(b"[" + b" " * 200_000 + b"]}\n")

    with daemon(tmp_path / "socket", answer) as cloud:
        assert cloud.networks() == []
