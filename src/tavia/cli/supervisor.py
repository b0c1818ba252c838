"""Keeps an embedded instance's services alive: starts them in order, restarts what dies, ends them all on SIGTERM.

:mod:`tavia.cli.background` runs it. ``tavia status`` and ``tavia up`` read what it reports.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tavia.cli import report
from tavia.cloud.local.processes import Process

LOG = logging.getLogger(__name__)

GRACEFUL_SHUTDOWN_TIMEOUT = 8
"""Seconds that a service takes at most to finish what is under way, as its configuration says."""
STOP_TIMEOUT = GRACEFUL_SHUTDOWN_TIMEOUT + 2.0
"""Seconds after which one that is told to end is killed."""
LONGEST_PAUSE = 30.0
LARGEST_LOG = 20 * 2**20
"""Bytes from which a log is set aside, as ``.log.1``, when its service is started (again)."""
STABLE_AFTER = 10.0
"""Seconds after which a service counts as started; its earlier failures are forgotten."""


HAND_OVER = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&'
"""In bash (other shells know ten descriptors), before that of a socket: as sd_listen_fds(3) says, the first is 3."""


@dataclass(frozen=True, slots=True)
class Service:
    """One program. It, and the services after it, are started once ``may_start`` says so.

    ``listening`` is the descriptor of the socket that it serves, which stays open when it ends.
    """

    name: str
    argv: Sequence[str]
    may_start: Callable[[], bool] = lambda: True
    listening: int | None = None

    @property
    def command(self) -> Sequence[str]:
        """What is executed."""
        return self.argv if self.listening is None else ("bash", "-c", f"{HAND_OVER}{self.listening}", "", *self.argv)


def pause_before_restart(failures: int) -> float:
    """Seconds to wait before a service that failed so many times in a row is started again."""
    return min(0.1 * 2.0 ** min(failures, 10), LONGEST_PAUSE)


class Supervisor:
    """The services, kept alive until SIGTERM or SIGINT."""

    def __init__(self, services: Sequence[Service], log_dir: Path, report_file: Path) -> None:
        self._services = services
        self._log_dir = log_dir
        self._report_file = report_file
        self._reports: dict[str, report.ServiceReport] = {}

    async def run(self) -> None:
        """Start all and keep them; return when a signal came and all have ended, the last started first."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        keepers: list[asyncio.Task[None]] = []
        starting = asyncio.create_task(self._start(keepers))
        await stop.wait()
        LOG.info("stopping")
        starting.cancel()
        for keeper in reversed(keepers):
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _start(self, keepers: list[asyncio.Task[None]]) -> None:
        for service in self._services:
            while not service.may_start():
                await asyncio.sleep(0.02)
            keepers.append(asyncio.create_task(self._keep(service)))

    async def _keep(self, service: Service) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            ended = await self._run_once(service, failures)
            lasted = time.monotonic() - started
            failures = 1 if lasted > STABLE_AFTER else failures + 1
            pause = pause_before_restart(failures - 1)
            LOG.error("%s %s after %.1f s; starting it again in %.1f s", service.name, ended, lasted, pause)
            self._tell(service, report.ServiceReport(None, failures, ended))
            await asyncio.sleep(pause)

    async def _run_once(self, service: Service, failures: int) -> str:
        """How it ended. A service that cannot be started at all has ended too."""
        log = self._log_dir / f"{service.name}.log"
        try:
            set_aside(log)
            with log.open("ab") as output:
                child = await asyncio.create_subprocess_exec(
                    *service.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=() if service.listening is None else (service.listening,),
                    start_new_session=True,
                )
        except OSError as error:
            return f"could not be started: {error}"
        before = self._reports.get(service.name)
        self._tell(service, report.ServiceReport(_process(child.pid), failures, before.last_end if before else None))
        try:
            return describe_end(await child.wait())
        finally:
            await _stop(child)

    def _tell(self, service: Service, told: report.ServiceReport) -> None:
        self._reports[service.name] = told
        try:
            report.write(self._report_file, self._reports)
        except OSError as error:
            LOG.error("the report on the services cannot be written: %s", error)


def _process(pid: int) -> Process | None:
    """A child of ours; None when it has ended and been waited for already."""
    try:
        return Process.of(pid)
    except ProcessLookupError:
        return None


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT)
    except TimeoutError:
        child.kill()
        await child.wait()


def set_aside(log: Path) -> None:
    """Begin a new file where this one has grown large, which takes the place of the one set aside before."""
    if log.exists() and log.stat().st_size >= LARGEST_LOG:
        log.replace(log.with_name(f"{log.name}.1"))


def describe_end(returncode: int) -> str:
    """In words how a child ended, from what ``Popen.returncode`` says: negative is a signal's number."""
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"exited with {returncode}"
