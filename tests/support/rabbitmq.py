"""A real RabbitMQ on loopback, in a directory of its own: ports, node, cookie and epmd are nobody else's.

It dies with the process that started it, and keeps its ports, data and users over a kill and a new start.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from ports import free_port

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Debian's wrappers around these change the user, and write to the machine's own RabbitMQ's folders."""

START_DEADLINE = 180.0
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class RabbitMQ:
    """A server that was never started, until :meth:`start`. It keeps its ports and data over restarts."""

    def __init__(self, directory: Path) -> None:
        self.user, self.password = "octavia", secrets.token_hex(8)
        self.port, self._epmd_port, self._dist_port = (free_port() for _ in range(3))
        self._directory = directory
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "vm_memory_high_watermark.absolute = 256MiB\n"
            "disk_free_limit.absolute = 1MB\n"
        )
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "env.conf").touch()

    @property
    def url(self) -> str:
        """For ``[DEFAULT] transport_url``."""
        return f"rabbit://{self.user}:{self.password}@127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        """Of the Erlang machine."""
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Start it and wait until it takes connections; also after :meth:`stop` or :meth:`kill`."""
        self._epmd = self._epmd or subprocess.Popen(
            [*DIES_WITH_PARENT, "epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with (self._directory / "console.log").open("ab") as console:
            self._server = subprocess.Popen(
                [*DIES_WITH_PARENT, str(PROGRAMS / "rabbitmq-server"), "-start_epmd", "false"],
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"RabbitMQ does not start:\n{self.logs()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """In order: clients are told."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """At once: clients see their connections reset."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it be connected but silent: the kernel still takes connections and some data."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def heal(self) -> None:
        """Have it running, whatever was done to it."""
        if self._server is None:
            self.start()
        else:
            self.resume()

    def close(self) -> None:
        """Nothing of it runs afterwards."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def ctl(self, *arguments: str) -> list[str]:
        """What ``rabbitmqctl`` answers, a line each, tabs between columns. It takes a second or two."""
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", *arguments]
        done = subprocess.run(command, env=self._environment(), cwd=self._directory, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().splitlines()

    def queues(self) -> dict[str, int]:
        """Messages that wait in each queue."""
        rows = (line.split("\t") for line in self.ctl("list_queues", "--no-table-headers", "name", "messages"))
        return {name: int(messages) for name, messages in rows}

    def logs(self) -> str:
        """The end of what it wrote."""
        files = [self._directory / "console.log", *sorted((self._directory / "log").glob("*.log"))]
        return "\n".join(f"==> {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)

    def _end(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(how)
        server.send_signal(signal.SIGCONT)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.wait()

    def _answers(self) -> bool:
        """Whether it greets: it listens a moment before it is ready."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"AMQP\0\0\x09\x01")
            return connection.recv(1) == b"\x01"
        return False

    def _environment(self) -> dict[str, str]:
        here = self._directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(here),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "tavia@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server, so that its pid is the one we know
        }
