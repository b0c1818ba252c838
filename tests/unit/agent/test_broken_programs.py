"""A program that somebody broke into gets no further by what it says, nor by what it puts in the agent's way."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tavia.agent import disk, stats_socket
from tavia.agent.accounts import Account
from tavia.agent.haproxy import FILE, Haproxy
from tavia.agent.stats_socket import SocketSilent, StatsSocket
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.protocol import AgentFailed

OTHER = Account("games")


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that others get to."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A program that listens there, and has this to say to the first who asks."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o600)

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as connection:
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield


def drone(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 65536)


def tell_all(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"secret")


def test_an_answer_without_end_is_not_taken_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_socket, "MAX_ANSWER", 1 << 20)
    path = directory / "haproxy.sock"
    with answering(path, drone), pytest.raises(SocketSilent, match="more than 1048576 bytes"):
        asyncio.run(StatsSocket(str(path), OTHER).ask("show info"))


def test_a_socket_is_connected_to_as_its_owner_and_a_link_to_another_s_leads_nowhere(directory: Path) -> None:
    own, link = directory / "agent.sock", directory / "haproxy.sock"
    link.symlink_to(own)
    with answering(own, tell_all):
        os.chown(link, OTHER.uid, OTHER.gid, follow_symlinks=False)
        with pytest.raises(SocketSilent, match="Permission denied"):
            asyncio.run(StatsSocket(str(link), OTHER).ask("show info"))
        assert asyncio.run(StatsSocket(str(own), OTHER).ask("show info")) == "secret"


def test_the_agent_opens_files_as_another_for_a_moment_only(directory: Path) -> None:
    own = directory / "own"
    disk.write(own, b"secret")
    with OTHER.opening(), pytest.raises(PermissionError):
        own.read_bytes()
    assert own.read_bytes() == b"secret"


@pytest.mark.parametrize("said", ["", "Pid: x\n\n", "Pid: 1\n\n# pxname,svname\nweb,FRONTEND\n\n"])
def test_a_haproxy_that_talks_nonsense_is_not_up(said: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RUN_DIR", str(directory))
    haproxy = Haproxy(AgentConfig(amphora_id="a", heartbeat_key=b"", controllers=(), base_path=directory), lambda: None)

    async def ask(_: StatsSocket, command: str) -> str:
        return said

    monkeypatch.setattr(StatsSocket, "ask", ask)
    assert asyncio.run(haproxy.observe({FILE: "global"}))["haproxy_up"] is False


def test_a_link_in_the_way_of_a_file_is_not_followed(directory: Path) -> None:
    precious, wanted = directory / "bundle.json", directory / "server-state"
    precious.write_text("precious")
    (directory / "server-state.new").symlink_to(precious)
    disk.write(wanted, b"states", reader=OTHER)
    assert (precious.read_text(), wanted.read_bytes()) == ("precious", b"states")
    found = wanted.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (os.geteuid(), pwd.getpwnam("games").pw_gid, 0o640)


def test_a_program_whose_user_is_missing_says_so() -> None:
    with pytest.raises(AgentFailed, match="no user nobody-of-this-name"):
        Account("nobody-of-this-name").give(Path("/nonexistent"), 0o600)
