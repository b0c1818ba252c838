"""Sockets that a service manager passes are the agent's; without one there are none."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tavia.agent.systemd import say_ready

SHOW = """
import os, socket
from tavia.agent import systemd
os.environ["LISTEN_PID"] = {pid}
print([(s.type.name, s.family.name, s.getblocking(), s.get_inheritable()) for s in systemd.passed_sockets()])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def passed(pid: str) -> list[str]:
    """What an agent finds that is started with a TCP and a UDP socket as descriptors 3 and 4."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        move = f'exec 3<&{tcp.fileno()} 4<&{udp.fileno()}; exec "$0" -c "$1"'
        shown = subprocess.run(
            ["bash", "-c", move, sys.executable, SHOW.format(pid=pid)],
            env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:heartbeats", "PYTHONPATH": ":".join(sys.path)},
            pass_fds=(tcp.fileno(), udp.fileno()), capture_output=True, text=True, check=True,
        )  # fmt: skip
    return shown.stdout.splitlines()


def test_they_are_taken_once_and_nothing_that_we_start_gets_them() -> None:
    sockets = [("SOCK_STREAM", "AF_INET", False, False), ("SOCK_DGRAM", "AF_INET6", False, False)]
    assert passed("str(os.getpid())") == [str(sockets), "[]"]


def test_another_process_s_are_left_alone() -> None:
    assert passed("'1'") == ["[]", "[]"]


def test_the_service_manager_hears_when_the_agent_is_ready(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        say_ready("")
        say_ready(str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
