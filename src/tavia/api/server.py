"""Gunicorn as Tavia has it: it ends in time, says what it left, and reloads the configuration without a restart.

One *arbiter* keeps some child processes, which serve. To the outside they are one service: the arbiter's row in the
table ``service``, which the children renew (it forks, so it has no thread and no connection of its own). So a living
row means that requests can be served, and a child that dies and is replaced is no event.

Gunicorn answers SIGHUP with new children, at the cost of the old ones' connections. Here the children that are there
read the configuration again, as every service of ours does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from types import FrameType
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.gthread import ThreadWorker
from oslo_config import cfg

from tavia.api import errors
from tavia.config import reloading
from tavia.metrics import serving
from tavia.process.presence import Presence
from tavia.store.database import Database
from tavia.store.opening import open_database

LOG = logging.getLogger(__name__)

PROCESSES = 2
THREADS = 8
KEEP_ALIVE = 100
"""Seconds that a connection may be idle: for longer than clients keep one (Go's http.Transport: 90), so that they close
it and no request meets a server that just did."""
ENDLESS = 10**9
"""Seconds: what graceful_shutdown_timeout = 0 means."""
FAREWELL = 2.0
"""Seconds that a client has to read an answer after which the connection closes."""
CHILDS_MARGIN = 5
"""Seconds that a child is patient for longer than the arbiter, which has to see what is left."""


class Server(BaseApplication):
    """Gunicorn, told all by us; ``application`` makes what one child serves, with connections of its own."""

    def __init__(self, conf: cfg.ConfigOpts, application: Callable[[cfg.ConfigOpts], Callable[..., Any]]) -> None:
        self.conf = conf
        self.presence = Presence(conf=conf)
        self.margin = 0
        self._application = application
        super().__init__()  # type: ignore[no-untyped-call]

    def load_config(self) -> None:
        """Gunicorn's settings; it reads no file and no argument of its own."""
        settings = self.conf.api_settings
        host = f"[{settings.bind_host}]" if ":" in settings.bind_host else settings.bind_host
        for name, value in {
            "bind": f"{host}:{settings.bind_port}",
            "workers": PROCESSES,
            "threads": THREADS,
            "keepalive": KEEP_ALIVE,
            "worker_class": Child,
            "proc_name": "tavia-api",
            "limit_request_line": 8190,
            "control_socket_disable": True,  # it would lie in root's home, one for all instances
            "on_exit": _finish,
            "child_exit": lambda _arbiter, child: serving.process_ended(child.pid),
        }.items():
            self.cfg.set(name, value)  # type: ignore[union-attr]
        self.follow_configuration()

    def follow_configuration(self) -> None:
        """Take over what may have changed since the start."""
        timeout = self.conf.graceful_shutdown_timeout or ENDLESS
        self.cfg.set("graceful_timeout", timeout + self.margin)  # type: ignore[union-attr]

    def load(self) -> Callable[..., Any]:
        """What one child serves."""
        application = self._application(self.conf)
        self.presence.keep(open_database(self.conf.database.connection, self.conf.database))
        return application

    def reload_configuration(self) -> None:
        """What SIGHUP does, in the arbiter and in each child."""
        reloading.reload(self.conf)
        self.follow_configuration()

    def run(self) -> None:
        """Serve until told to stop. Raises SystemExit, with status 0 where nothing was left undone."""
        Master(self).run()  # type: ignore[no-untyped-call]


class Master(Arbiter):
    """The arbiter: SIGTERM and SIGINT end it gracefully, a second one at once."""

    app: Server
    left = 0
    """Children that did not end in time."""

    def handle_hup(self) -> None:
        """Reload the configuration, here and in the children."""
        self.app.reload_configuration()
        self.kill_workers(signal.SIGHUP)

    def handle_int(self) -> None:
        """As SIGTERM."""
        self.handle_term()  # type: ignore[no-untyped-call]

    def stop(self, graceful: bool = True) -> None:
        """Have the children finish their requests, for graceful_shutdown_timeout at most."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end_at_once)
        super().stop(graceful)  # type: ignore[no-untyped-call]

    def spawn_worker(self) -> int:
        """Start a child; it takes SIGHUP as soon as it can, so that none is lost to what it inherits from here."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            return int(super().spawn_worker())  # type: ignore[no-untyped-call]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def kill_workers(self, sig: int) -> None:
        """Send a signal to all children; note who had to be killed."""
        if sig == signal.SIGKILL:
            self.left = len(self.WORKERS)
        super().kill_workers(sig)  # type: ignore[no-untyped-call]

    def _end_at_once(self, number: int, _frame: FrameType | None) -> None:
        super().kill_workers(signal.SIGKILL)  # type: ignore[no-untyped-call]
        os._exit(128 + number)


class Child(ThreadWorker):
    """A process that serves; SIGHUP reloads its configuration, in its main loop."""

    app: Server

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer. An answer that is given before the whole body was read closes the connection, and says so: gunicorn
        would promise to keep it, and then find more to skip than it likes to.
        """
        asked = req.should_close
        req.should_close = lambda: asked() or not _is_read(req.body.reader)
        return bool(super().handle_request(req, conn))  # type: ignore[no-untyped-call]

    def handle(self, conn: Any) -> Any:
        """Serve a connection, in a thread of its own. The end is waited for here too: gunicorn's main loop would, and
        nobody be served while one client takes its time.
        """
        kept = super().handle(conn)  # type: ignore[no-untyped-call]
        if kept is False:
            _say_farewell(conn.sock)
        return kept

    def init_process(self) -> None:
        """Begin to serve."""
        self.app.margin = CHILDS_MARGIN
        self.app.follow_configuration()
        super().init_process()  # type: ignore[no-untyped-call]

    def init_signals(self) -> None:
        """Gunicorn's, and SIGHUP."""
        super().init_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGHUP, self._hang_up)
        signal.siginterrupt(signal.SIGHUP, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see Master.spawn_worker

    def is_parent_alive(self) -> bool:
        """Without an arbiter, leave the port to the next one at once; requests under way are answered still.

        Gunicorn alone would keep the port, and serve for as long as a client keeps its connection busy.
        """
        if super().is_parent_alive():  # type: ignore[no-untyped-call]
            return True
        self.alive = False
        self.set_accept_enabled(False)  # type: ignore[no-untyped-call]
        for listener in self.sockets:
            listener.close()
        return False

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self.method_queue.defer(self.app.reload_configuration)  # type: ignore[no-untyped-call]


def _is_read(reader: Any) -> bool:
    """Whether nothing of a body is left on its connection, as gunicorn's two kinds of readers know it."""
    return reader.parser is None if isinstance(reader, ChunkedReader) else reader.length == 0


def _say_farewell(sock: socket.socket) -> None:
    """Let the client read the answer before the connection goes: what it still sends would reset it otherwise."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + FAREWELL
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                break
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # nothing is left to wait for in the main loop


def _write_error(sock: socket.socket, status: int, _reason: str, fault: str) -> None:
    """What gunicorn refuses before the application sees it: a URL too long, a header that is none."""
    phrase = HTTPStatus(status).phrase
    body = json.dumps(errors.form(status, fault or phrase))
    head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("ascii"))  # type: ignore[no-untyped-call]


util.write_error = _write_error
"""Gunicorn writes HTML and has no setting for that."""


def _finish(master: Master) -> None:
    """The arbiter's last act: be gone from the table, or say why not. Raises SystemExit."""
    if master.left:
        timeout = master.app.conf.graceful_shutdown_timeout
        LOG.error(
            "Not finished after graceful_shutdown_timeout, %s s; left: requests of %s processes", timeout, master.left
        )
        raise SystemExit(1)
    database: Database = open_database(master.app.conf.database.connection, master.app.conf.database)
    master.app.presence.withdraw(database)
