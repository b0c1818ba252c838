"""A real memcached on loopback, for one pytest session."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

from ports import free_port

DEADLINE_SECONDS = 10.0


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Its ``host:port`` for ``memcached_servers``. Ends with the block, and with pytest."""
    while True:
        port = free_port()
        options = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "16", "-u", "root"]
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "memcached", *options])
        try:
            if _serves(process, port):
                yield f"127.0.0.1:{port}"
                return
        finally:
            process.kill()
            process.wait()


def statistics(server: str) -> dict[str, str]:
    """What it counts: ``get_hits``, ``cmd_set``, ``curr_items`` ... Raises OSError where nobody answers."""
    host, port = server.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection, connection.makefile("rw") as stream:
        stream.write("stats\r\n")
        stream.flush()
        lines = iter(lambda: stream.readline().strip(), "END")
        return {name: value for _, name, value in (line.split(" ", 2) for line in lines)}


def _serves(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it is this process that answers there: another one may have taken the port first."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None:
        try:
            return statistics(f"127.0.0.1:{port}")["pid"] == str(process.pid)
        except OSError:
            assert time.monotonic() < deadline, "memcached does not answer"
            time.sleep(0.02)
    return False
