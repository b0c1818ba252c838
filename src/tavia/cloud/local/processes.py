"""Processes told apart beyond their number: a pid is used again, a pid with its start time and boot is not."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STATE, _FLAGS, _START, _PENDING = 0, 6, 19, 28
"""Fields of /proc/PID/stat behind the command's name, proc(5): 3 (state), 9 (flags), 22 (start, clock ticks), 31
(signals sent and not delivered)."""
_DEAD = "ZX"
_PF_EXITING = 0x4
"""Linux' sched.h. A PID 1 exits for as long as the kernel ends the rest of its namespace."""
_KILLED = 1 << signal.SIGKILL - 1
"""Sent and not delivered: on a busy machine the process has not been on a processor since."""


def boot_id() -> str:
    """Which run of the kernel this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields behind the command's name, or None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one run of the kernel."""

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now. Raises ProcessLookupError."""
        fields = _stat(pid)
        if fields is None:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[_START]), boot_id())

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not, nor one that is on its way out."""
        fields = self._fields()
        if fields is None or fields[_STATE] in _DEAD:
            return False
        return not int(fields[_FLAGS]) & _PF_EXITING and not int(fields[_PENDING]) & _KILLED

    def _fields(self) -> list[str] | None:
        """Its fields, or None when there is none of this pid, or another one."""
        fields = _stat(self.pid)
        return fields if fields and int(fields[_START]) == self.start and self.boot == boot_id() else None

    def kill(self, timeout: float) -> None:
        """SIGKILL it and wait until it is gone; nothing when it is. Raises TimeoutError after ``timeout`` seconds."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Only now, with the handle on it, is it sure that the signal cannot hit another process.
            if self._fields() is None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} does not die within {timeout} s of SIGKILL")
        finally:
            os.close(handle)


def in_network(path: Path) -> list[int]:
    """The pids of the processes in a network namespace, as ``ip netns pids`` finds them."""
    namespace = path.stat()
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                theirs = (directory / "ns/net").stat()
                if (theirs.st_dev, theirs.st_ino) == (namespace.st_dev, namespace.st_ino):
                    found.append(int(directory.name))
    return found


def kill_all(pids: Iterable[int], timeout: float) -> None:
    """SIGKILL all of them but the caller, and wait until they are gone. Raises TimeoutError."""
    found = []
    for pid in set(pids) - {os.getpid()}:
        with suppress(ProcessLookupError):
            found.append(Process.of(pid))
            os.kill(pid, signal.SIGKILL)
    for process in found:
        process.kill(timeout)
