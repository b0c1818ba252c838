"""The life of a controller's process: configuration, start, signals, reload, an end in time.

The worker, the health manager and housekeeping are :func:`serve` with what each of them builds. The API lives under
gunicorn, which has its own way with processes and signals (:mod:`tavia.api.server`).

The main thread only waits for signals, so that they are heard whatever hangs in the threads that work.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from oslo_config import cfg

from tavia import config
from tavia.config import reloading
from tavia.metrics import serving
from tavia.process.presence import DATABASE_ERRORS, Presence
from tavia.store.opening import open_database

LOG = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ENDED = 0
"""Stands among the signals when the service has ended."""

HEARD_WITHIN = 1.0
"""Seconds. Python runs a signal's handler between two instructions of the main thread: where the signal comes just
before that begins to wait, or to another thread, it is heard only when the wait ends."""

LEAVE_SECONDS = 5.0
"""For how long a process that ends as it should waits for what it has still to say."""

Signals = SimpleQueue[int]


class Service(Protocol):
    """What a process does."""

    def run(self) -> None:
        """Work until told to stop; what it raises ends the process with an error."""

    def stop(self) -> None:
        """Have ``run`` finish what is under way and return. Returns at once itself."""

    def unfinished(self) -> Sequence[str]:
        """What is under way, in words: what an end now would leave."""


def serve(prog: str, argv: Sequence[str] | None, build: Callable[[cfg.ConfigOpts], Service]) -> None:
    """Be the service ``prog`` until it has ended; never returns. Raises SystemExit where it cannot start.

    SIGHUP reloads the configuration. SIGTERM or SIGINT stop it within [DEFAULT] graceful_shutdown_timeout, a second
    one at once. The exit status is 0 where it ended by itself as it was told to.
    """
    signals: Signals = SimpleQueue()
    signal.signal(signal.SIGHUP, lambda number, _frame: signals.put(number))
    conf = config.load(argv, prog)
    config.setup_logging(conf)
    try:
        database = open_database(conf.database.connection, conf.database)
        service = build(conf)
    except (*DATABASE_ERRORS, OSError) as error:
        raise SystemExit(f"{prog}: {error}") from error
    serving.serve(conf)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: signals.put(received))
    presence = Presence(conf=conf)
    presence.keep(database)
    status = attend(conf, service, signals)
    if status == 0:
        presence.withdraw(database)
        take_leave()
    end(status)


def attend(conf: cfg.ConfigOpts, service: Service, signals: Signals) -> int:
    """Run a service and do what the signals say, until it has ended or must; the exit status."""
    failed = threading.Event()

    def work() -> None:
        try:
            service.run()
        except Exception:
            LOG.exception("The service failed")
            failed.set()
        finally:
            signals.put(_ENDED)

    threading.Thread(target=work, name="service", daemon=True).start()
    stopping_since: float | None = None
    while True:
        try:
            number = signals.get(timeout=min(HEARD_WITHIN, _time_left(conf, stopping_since)))
        except Empty:
            if _time_left(conf, stopping_since) > 0:
                continue
            left = ", ".join(service.unfinished()) or "nothing that it knows of"
            LOG.error("Not finished after graceful_shutdown_timeout, %s s; left: %s", _timeout(conf), left)
            return 1
        if number == signal.SIGHUP:
            reloading.reload(conf)
        elif number == _ENDED:
            return 1 if failed.is_set() or stopping_since is None else 0
        elif stopping_since is None:
            LOG.info("%s: stopping, within %s s", signal.Signals(number).name, _timeout(conf))
            stopping_since = time.monotonic()
            service.stop()
        else:
            LOG.warning("Told to stop again; left: %s", ", ".join(service.unfinished()) or "nothing")
            return 128 + number


def _timeout(conf: cfg.ConfigOpts) -> int:
    return int(conf.graceful_shutdown_timeout)


def _time_left(conf: cfg.ConfigOpts, stopping_since: float | None) -> float:
    """Seconds; without end: as long as it takes."""
    if stopping_since is None or not _timeout(conf):
        return math.inf
    return max(0.0, stopping_since + _timeout(conf) - time.monotonic())


def take_leave() -> None:
    """Do what was registered for an ordinary exit, which :func:`end` is not: the last notifications go out."""
    leaving = threading.Thread(target=atexit._run_exitfuncs, name="taking leave", daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)


def end(status: int) -> None:
    """End the process now: a thread that hangs would hold up an ordinary exit for ever."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
