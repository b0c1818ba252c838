"""An agent may be slow, endless or a liar: a call ends within its deadline, and says at which seam."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hostile_server import SPOIL_ANSWERS, SPOIL_TLS, Behaviour, _asked, hostile, without_end, without_reading
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tavia import pki
from tavia.amphora import client as clients
from tavia.amphora.client import CODE, MOST_ANSWER, MOST_WORDS, AgentClient, AgentFailed, Unreachable
from tavia.model.seams import SeamError

AMPHORA = "5f2a3c1e-8d46-4f0b-9a57-1c2d3e4f5a6b"
CONNECT, READ, MARGIN = 0.5, 0.5, 6.0
# A busy machine takes its time; without a deadline it would be the servers' LONGEST.


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    pki.init(directory)
    authority = pki.Authority.load(directory / pki.SERVER_CA, directory / pki.SERVER_CA_KEY, None)
    (directory / "agent.pem").write_bytes(authority.issue_amphora(AMPHORA, timedelta(days=1)).pem)
    return directory


@pytest.fixture(scope="module")
def tls(keys: Path) -> ssl.SSLContext:
    """As an agent listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "agent.pem")
    context.load_verify_locations(keys / pki.CLIENT_CA)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def asking(keys: Path, port: int, read: float = READ) -> Iterator[AgentClient]:
    client = AgentClient(
        "127.0.0.1", port, AMPHORA, client_cert=keys / pki.CLIENT, server_ca=keys / pki.SERVER_CA,
        connect_timeout=CONNECT, read_timeout=read,
    )  # fmt: skip
    try:
        yield client
    finally:
        client.close()


def failure(call: Callable[[], object], seconds: float = CONNECT + READ) -> SeamError:
    """How the call fails, which it does in time."""
    began = time.monotonic()
    with pytest.raises(SeamError) as raised:
        call()
    assert time.monotonic() - began < seconds + MARGIN
    return raised.value


@pytest.mark.parametrize("behaviour", SPOIL_TLS)
def test_an_agent_that_draws_out_the_handshake_is_given_up_within_the_time_for_connecting(
    keys: Path, tls: ssl.SSLContext, behaviour: Behaviour
) -> None:
    with hostile(behaviour, tls) as port, asking(keys, port, read=20.0) as client:
        found = failure(client.status, CONNECT)
    assert (type(found), found.code) == (Unreachable, "agent-answer-timeout")
    assert "127.0.0.1" not in found.message, "it is the tenant's to read"
    assert "TLS" in found.message


@pytest.mark.parametrize("behaviour", SPOIL_ANSWERS)
def test_an_agent_that_draws_out_its_answer_is_given_up_within_the_calls_deadline(
    keys: Path, tls: ssl.SSLContext, behaviour: Behaviour
) -> None:
    with hostile(behaviour, tls) as port, asking(keys, port) as client:
        found = failure(client.status)
        assert (type(found), found.code) == (Unreachable, "agent-answer-timeout")
        assert "127.0.0.1" not in found.message
        assert "answer" in found.message
        failure(client.status)  # its connection is not used again, and the next one has a deadline of its own


def test_an_agent_that_does_not_take_what_it_is_sent_is_given_up_too(keys: Path, tls: ssl.SSLContext) -> None:
    with hostile(without_reading, tls) as port, asking(keys, port) as client:
        found = failure(lambda: client.put_certificate(b"x" * (16 << 20)))
    assert isinstance(found, Unreachable)


def test_an_answer_without_end_is_read_up_to_a_limit(keys: Path, tls: ssl.SSLContext) -> None:
    with hostile(without_end, tls) as port, asking(keys, port, read=20.0) as client:
        found = failure(client.status, 10.0)
    assert (type(found), found.code) == (AgentFailed, "agent-answer-too-large")


def test_eight_of_them_at_once_hold_eight_threads_no_longer_than_one(keys: Path, tls: ssl.SSLContext) -> None:
    with hostile(SPOIL_ANSWERS[4], tls) as port:

        def ask() -> None:
            with asking(keys, port) as client, pytest.raises(Unreachable):
                client.status()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < CONNECT + READ + MARGIN


def answering(status: int, body: bytes) -> Behaviour:
    def answer(connection: Any, tls: ssl.SSLContext | None) -> None:
        with _asked(connection, tls) as secure:
            secure.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            secure.recv(1)

    return answer


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"message": "\\ud800"}',
        b"\xff",
        b'{"a": ' + b"9" * 5000 + b"}",
        json.dumps({"x": "y" * (MOST_ANSWER - 100)}).encode(),
        b"[]",
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_none_is_the_agents_failure(
    keys: Path, tls: ssl.SSLContext, status: int, body: bytes
) -> None:
    with hostile(answering(status, body), tls) as port, asking(keys, port, read=5.0) as client:
        assert isinstance(failure(client.status, 10.0), AgentFailed)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80), st.lists, max_leaves=4
)
details = st.fixed_dictionaries(
    {},
    optional={
        "code": anything,
        "message": anything | st.just("long " * 10_000),
        "file": anything | st.just("haproxy.cfg"),
        "line": anything,
        "held": anything | st.fixed_dictionaries({"epoch": anything, "serial": anything, "owner": anything}),
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(status=st.sampled_from([400, 404, 409, 413, 422, 500, 503]), content=details)
def test_whatever_an_agent_refuses_with_can_be_written_into_the_journal(status: int, content: dict[str, Any]) -> None:
    error = clients._refused(status, content)
    assert CODE.fullmatch(error.code)
    assert len(error.message) <= MOST_WORDS
    assert type(getattr(error, "line", None)) in (int, type(None))
