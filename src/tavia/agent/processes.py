"""What the agent runs: commands to their end, and daemons that it keeps running.

Those outlive it: an agent that was killed finds them by their pid files and goes on. Exits are seen through pidfds in
the event loop, without threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tavia.agent import disk
from tavia.agent.accounts import Account
from tavia.amphora.protocol import AgentFailed

LOG = logging.getLogger(__name__)

STEADY = 10.0
"""Seconds a daemon must have run for its next restart to be at once."""
LONGEST_DELAY = 10.0
STOP_SECONDS = 5.0
PROBES, PROBE_SECONDS, PROBE_POLL = 3, 2.0, 0.05
"""How many times in a row a daemon may leave a question unanswered, how long each, and between two tries at one."""
MAX_LOG = 1 << 20
"""Bytes that a daemon's log may have before it is emptied."""
WRITE_PID_AND_EXEC = 'echo $$ >"$0" && exec "$@"'
"""The pid is on disk before the daemon runs, so that an agent killed right after the fork can't lose it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit code and all that it said."""

    code: int
    output: str


async def run(*command: str, stdin: str = "", timeout: float = 30.0) -> Finished:
    """Run a command to its end. Raises AgentFailed when it can't be started or takes over ``timeout`` seconds."""
    with _scratch(stdin) as given, _scratch() as said:
        try:
            process = subprocess.Popen(command, stdin=given, stdout=said, stderr=said)
        except OSError as error:
            raise AgentFailed("program-missing", f"{command[0]}: {error}") from error
        pidfd = os.pidfd_open(process.pid)
        try:
            await asyncio.wait_for(_exited(pidfd), timeout)
        except TimeoutError:
            raise AgentFailed("program-timeout", f"{' '.join(command)}: not done after {timeout} s") from None
        finally:
            os.close(pidfd)
            process.kill()  # nothing when it has ended
            process.wait()
        said.seek(0)
        return Finished(process.returncode, said.read().decode(errors="replace"))


async def version_of(command: str) -> str:
    """The version that a command tells; empty when it is not installed."""
    try:
        said = (await run(command, "-v")).output
    except AgentFailed as error:
        LOG.error("%s", error)
        return ""
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else ""


class Daemon:
    """One process that is kept running between ``start`` (or ``adopt``) and ``stop``.

    ``died`` is called at once when it ends by itself, ``restarted`` when it was started again. It is the right process
    when its name is the command's and ``mark`` is among its arguments. It runs as ``account``.
    """

    def __init__(
        self,
        command: Sequence[str],
        mark: str,
        account: Account,
        died: Callable[[], None],
        restarted: Callable[[], None],
    ) -> None:
        self._command = account.running(*command)
        self._mark = mark
        self.name = Path(command[0]).name
        self._pid_file = disk.own_run_dir() / f"{self.name}.pid"
        self.log = disk.own_run_dir() / f"{self.name}.log"
        self._died = died
        self._restarted = restarted
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._pidfd: int | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def running(self) -> bool:
        """Whether the process exists; false between a death and the restart."""
        return self._pidfd is not None

    @property
    def kept(self) -> bool:
        """Whether it shall run: from ``start`` or ``adopt`` until ``stop``."""
        return self._keeper is not None

    def adopt(self) -> bool:
        """Take over the process that an agent before us left; false when there is none."""
        try:
            pid = int(self._pid_file.read_text())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return False
        if not self._is_ours(pid):
            os.close(pidfd)
            return False
        LOG.info("%s goes on as process %d", self.name, pid)
        self._pid = pid
        self._keep(pidfd)
        return True

    def start(self) -> None:
        """Start it and keep it running."""
        self.log.unlink(missing_ok=True)
        self._keep(self._spawn())

    async def stop(self) -> None:
        """End it for good; hard when it does not end by itself."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._pidfd is None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(_exited(self._pidfd), STOP_SECONDS)
        except TimeoutError:
            self.kill()
            await _exited(self._pidfd)
        self._reap()

    def kill(self) -> None:
        """End it hard, with all that it started: a child that hangs would keep its sockets, and see no parent's end."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)

    async def is_hung(self, answers: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it runs and does not answer, PROBES times in a row for PROBE_SECONDS each.

        What is only busy must pass. Its loop then still turns, many times in one probe, and whose does not for all six
        seconds serves nobody: clients, checks and VRRP's peer have given it up. More than one probe, because each
        begins anew: one question may be lost with a worker that just leaves, or run out while this whole machine was
        paused, to be moved to another host. Not to be asked while it loads, which takes as long as it takes.
        """
        for _ in range(PROBES):
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    while self.running and not await answers():
                        await asyncio.sleep(PROBE_POLL)
                    return False
        return True

    async def reads_signals(self) -> bool:
        """Whether it and its children have taken SIGCHLD, for one whose loop reads signals with signalfd(2).

        It is blocked there, hence pending until the loop gets to it; and it means nothing: "look after your children".
        """
        processes = [self._pid, *_children(self._pid)]
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCHLD)
        await asyncio.sleep(PROBE_POLL)
        return not any(_is_pending(signal.SIGCHLD, pid) for pid in processes)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing when it does not run."""
        if self._pidfd is not None:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                LOG.info("%s has just ended", self.name)

    def said(self) -> str:
        """Its log, from its start or the last :meth:`forget`."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def forget(self, above: int = 0) -> None:
        """Empty its log when it is longer than ``above`` bytes."""
        if self.log.exists() and self.log.stat().st_size > above:
            os.truncate(self.log, 0)

    def _keep(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._keeper = asyncio.create_task(self._restart_for_ever())

    async def _restart_for_ever(self) -> None:
        delay, started = 0.0, time.monotonic()
        while self._pidfd is not None:
            await _exited(self._pidfd)
            self._died()
            self._reap()
            self.restarts += 1
            delay = 0.0 if time.monotonic() - started > STEADY else delay
            LOG.error("%s ended; started again in %.1f s. It said: %s", self.name, delay, self.said()[-2000:])
            await asyncio.sleep(delay)
            delay, started = min(max(0.2, delay * 2), LONGEST_DELAY), time.monotonic()
            self._pidfd = self._spawn()
            self._restarted()

    def _spawn(self) -> int:
        wrapped = ["/bin/sh", "-c", WRITE_PID_AND_EXEC, str(self._pid_file), *self._command]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                wrapped, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid = self._child.pid
        return os.pidfd_open(self._pid)

    def _reap(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _is_ours(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            return False
        return Path(words[0]).name == self.name and self._mark in words


async def _exited(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_pending(number: signal.Signals, pid: int) -> bool:
    """For the process as a whole, as one that was sent with kill(2)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    pending = re.search(r"^ShdPnd:\t(\w+)$", status, re.MULTILINE)
    return bool(pending and int(pending[1], 16) >> (number - 1) & 1)


def _scratch(content: str = "") -> BinaryIO:
    """A file in memory, for what goes in and out of a command."""
    file = os.fdopen(os.memfd_create("tavia"), "w+b")
    file.write(content.encode())
    file.seek(0)
    return file
