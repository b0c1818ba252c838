"""The demonstration's parts: traffic that counts who answered, and the picture."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ports import free_port
from rich.console import Console

from tavia.cli import picture
from tavia.cli.progress import wait_until
from tavia.cli.traffic import ask


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def backend() -> Iterator[int]:
    """The port of a backend called ``blue``."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tavia.cli.traffic", "serve", "blue", str(port)])
    try:
        assert wait_until(lambda: listens(port), 10)
        yield port
    finally:
        process.kill()
        process.wait()


def test_answers_are_counted_by_who_gave_them(backend: int) -> None:
    asked = ask("127.0.0.1", backend, 5)
    assert (asked["answers"], asked["failed"]) == ({"blue": 5}, 0)
    assert asked["milliseconds"] > 0


def test_what_nobody_answers_has_failed() -> None:
    assert ask("127.0.0.1", free_port(), 3) == {"answers": {}, "failed": 3, "milliseconds": None}


def scene(answered: tuple[int, int], failed: int) -> picture.Scene:
    return picture.Scene(
        client="tavia-0a1b2c3d",
        vip="198.19.0.2:80",
        loadbalancer="demo-lb",
        provisioning_status="ACTIVE",
        operating_status="ONLINE",
        amphorae=[
            picture.Amphora(id="b" * 36, role="BACKUP", address="198.19.0.4", status="ALLOCATED"),
            picture.Amphora(id="a" * 36, role="MASTER", address="198.19.0.3", status="ALLOCATED"),
        ],
        members=[
            picture.Member(name=name, address="198.19.0.9:8080", status="ONLINE", answered=count)
            for name, count in zip(("demo-1", "demo-2"), answered, strict=True)
        ],
        failed=failed,
        milliseconds=1.25 if any(answered) else None,
    )


def drawn(told: picture.Scene) -> list[str]:
    console = Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(picture.draw(told))
    return captured.get().splitlines()


def test_the_picture_follows_a_request_from_client_to_members() -> None:
    lines = drawn(scene((50, 50), 0))
    order = ["tavia-0a1b2c3d", "198.19.0.2:80", "MASTER", "BACKUP", "demo-1", "demo-2"]
    found = [next(number for number, line in enumerate(lines) if word in line and "│ " in line) for word in order]
    assert found == sorted(found)


def test_the_picture_tells_each_members_share() -> None:
    lines = drawn(scene((75, 25), 0))
    assert next(line for line in lines if "demo-1" in line).count("█") == 15
    assert "25%" in next(line for line in lines if "demo-2" in line)
    assert any("100 requests: 100 answered, 0 failed" in line for line in lines)


def test_a_picture_without_any_answer_can_be_drawn() -> None:
    assert any("3 requests: 0 answered, 3 failed" in line for line in drawn(scene((0, 0), 3)))
