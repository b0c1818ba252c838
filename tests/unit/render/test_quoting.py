"""A tenant's string never becomes configuration: HAProxy reads back what was given, byte for byte."""

from __future__ import annotations

import http.client
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import haproxy_cfg, listener, member, monitor, pool

from tavia.render.quoting import Place, quoted

NASTY = [
    "\n",
    "\r\n",
    '"',
    "'",
    " ",
    "\t",
    "#",
    "%[src]",
    "%%",
    "%",
    "\\",
    "\\x41",
    "$HOME",
    "${HOME}",
    "{",
    ")",
    "]",
    ",",
]
pieces = st.one_of(st.sampled_from([*NASTY, "bind :1", "é", "\U0001f600", "a"]), st.characters(exclude_characters="\0"))
strings = st.lists(pieces, max_size=8).map("".join)


def as_bytes(text: str) -> bytes:
    """Lone surrogates too, which the API refuses."""
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def answering(rules: list[str]) -> Iterator[Callable[[int], bytes]]:
    """A HAProxy whose rule number n answers the request /n; yields what fetches one answer's body."""
    with tempfile.TemporaryDirectory() as directory:
        path, address = Path(directory) / "haproxy.cfg", f"{directory}/http"
        lines = [f"    {rule} if {{ path /{number} }}" for number, rule in enumerate(rules)]
        head = ["defaults", "    mode http", "    timeout client 5s", "frontend f", f"    bind unix@{address}"]
        path.write_text("\n".join([*head, *lines, ""]))
        process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stderr=subprocess.PIPE, text=True)
        try:
            yield lambda number: body(address, number, process)
        finally:
            process.kill()
            process.communicate()


def body(address: str, number: int, process: subprocess.Popen[str]) -> bytes:
    connection = http.client.HTTPConnection("haproxy", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 5
    while connection.sock.connect_ex(address):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.request("GET", f"/{number}")
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


@settings(max_examples=25)
@given(st.lists(strings.filter(bool), min_size=1, max_size=15))
def test_haproxy_reads_a_word_back_as_it_was(texts: list[str]) -> None:
    rule = "http-request return status 200 content-type text/plain string {}"
    with answering([rule.format(quoted(text)) for text in texts]) as body_of:
        assert [body_of(number) for number in range(len(texts))] == [as_bytes(text) for text in texts]


@settings(max_examples=25)
@given(st.lists(strings.filter(bool), min_size=1, max_size=15))
def test_haproxy_evaluates_nothing_in_a_log_format(texts: list[str]) -> None:
    rule = "http-request return status 200 content-type text/plain lf-string {}"
    with answering([rule.format(quoted(text, Place.FORMAT)) for text in texts]) as body_of:
        assert [body_of(number) for number in range(len(texts))] == [as_bytes(text) for text in texts]


@settings(max_examples=25)
@given(st.lists(strings.filter(bool), min_size=1, max_size=15))
def test_haproxy_reads_a_sample_fetchs_argument_back_as_it_was(texts: list[str]) -> None:
    rule = "http-request return status 200 content-type text/plain lf-string %[str({}),hex]"
    with answering([rule.format(quoted(text, Place.ARGUMENT)) for text in texts]) as body_of:
        hexadecimal = [body_of(number).decode() for number in range(len(texts))]
    assert hexadecimal == [as_bytes(text).hex().upper() for text in texts]


def directives(cfg: str) -> list[list[str]]:
    """The first two words of every line that HAProxy would parse."""
    return [line.split()[:2] for line in cfg.split("\n") if line.strip()]


def with_strings(path: str, codes: str, domain: str, cookie: str, header: str) -> str:
    checked = monitor(url_path=path, expected_codes=codes, domain_name=domain, http_version=1.1, name=path)
    persistent = pool(session_persistence={"type": "APP_COOKIE", "cookie_name": cookie}, description=path)
    return haproxy_cfg(listener(insert_headers={header: header}, name=header), persistent, checked, member(name=domain))


@settings(max_examples=60)
@given(path=strings, codes=strings, domain=strings, cookie=strings, header=strings)
def test_no_string_of_a_tenant_adds_a_directive(**chosen: Any) -> None:
    benign = with_strings("/", "200", "a.example", "sid", "X-Other")
    assert directives(with_strings(**chosen)) == directives(benign)


@settings(max_examples=30)
@given(path=strings.map("/".__add__), domain=strings, cookie=strings.filter(bool))
def test_haproxy_accepts_whatever_path_domain_and_cookie_a_tenant_names(path: str, domain: str, cookie: str) -> None:
    cfg = with_strings(path, "200", domain, cookie, "X-Other")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(cfg)
        file.flush()
        result = subprocess.run(["haproxy", "-c", "-f", file.name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + cfg


@pytest.mark.parametrize("place", Place)
def test_what_cannot_be_expressed_is_refused_by_haproxy_on_its_line(
    haproxy_says: Callable[[str], Any], place: Place
) -> None:
    result = haproxy_says(f"global\n    description {quoted(chr(0), place)}\n")
    assert result.returncode == 1
    assert "haproxy.cfg:2]: truncated or invalid hexadecimal sequence" in result.stderr


def test_an_address_with_a_zone_adds_nothing() -> None:
    zoned = haproxy_cfg(listener(), pool(), member(address="fe80::1%x\n    bind :1"))
    assert directives(zoned) == directives(haproxy_cfg(listener(), pool(), member()))
