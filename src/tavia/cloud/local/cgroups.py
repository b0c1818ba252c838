"""Control groups, version 1 or 2, whichever has the controllers; on a machine with neither they limit nothing.

The daemon gives each server a group ``tavia-<instance>/<server id>`` with limits; ``tavia up`` puts its services into
``tavia-<instance>/services``; :func:`tavia.cloud.local.teardown` finds the instance's processes by them.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tavia.cloud.local import processes

_CONTROLLERS = ("memory", "pids", "cpu")
_V1_SHARES, _V2_WEIGHT = 1024, 100
"""The kernel's own weight of one group, cgroups-v1/v2 "cpu"."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use. The processor is shared evenly, not capped: an idle core is for whoever needs it."""

    memory_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup file system and which of our controllers it has."""

    root: Path
    version: int
    controllers: frozenset[str]


@cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """Those that we can use, from /proc/self/mountinfo (proc(5)); a controller appears in one of them only."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root = Path(before.split()[4])
        if not os.access(root, os.W_OK):
            continue
        if kind == "cgroup":
            has, version = options.split(","), 1
        elif kind == "cgroup2":
            has, version = (root / "cgroup.controllers").read_text().split(), 2
        else:
            continue
        ours = frozenset(has) & frozenset(_CONTROLLERS)
        if ours:
            found.append(Hierarchy(root, version, ours))
    return tuple(found)


def create(name: str, limits: Limits | None = None) -> list[Path]:
    """Make the group ``name`` (``parent/child``) . A pid written to one of the returned files joins it."""
    parent, _, _ = name.partition("/")
    joins = []
    for hierarchy in hierarchies():
        path = hierarchy.root / name
        if not path.exists():
            _make_parent(hierarchy, parent)
            path.mkdir(exist_ok=True)
        if limits:
            _limit(hierarchy, path, limits)
        joins.append(path / "cgroup.procs")
    return joins


def _make_parent(hierarchy: Hierarchy, parent: str) -> None:
    """On each core the whole instance weighs as much as one ordinary task, not as much as one on the machine."""
    path = hierarchy.root / parent
    path.mkdir(exist_ok=True)
    cores = os.cpu_count() or 1
    if hierarchy.version == 1:
        if "cpu" in hierarchy.controllers:
            (path / "cpu.shares").write_text(str(_V1_SHARES * cores))
        return
    enable = " ".join(f"+{controller}" for controller in sorted(hierarchy.controllers))
    for level in (hierarchy.root, path):
        (level / "cgroup.subtree_control").write_text(enable)
    if "cpu" in hierarchy.controllers:
        (path / "cpu.weight").write_text(str(min(_V2_WEIGHT * cores, 10_000)))


def _limit(hierarchy: Hierarchy, path: Path, limits: Limits) -> None:
    memory = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
    if "memory" in hierarchy.controllers:
        (path / memory).write_text(str(limits.memory_bytes))
    if "pids" in hierarchy.controllers:
        (path / "pids.max").write_text(str(limits.processes))


def join(name: str, pid: int) -> None:
    """Make the group and move a process into it."""
    for procs in create(name):
        procs.write_text(str(pid))


def pids(name: str) -> set[int]:
    """The processes in the group and below it."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for procs in (hierarchy.root / name).rglob("cgroup.procs"):
            with suppress(FileNotFoundError, OSError):
                found.update(int(pid) for pid in procs.read_text().split())
    return found


def remove(name: str, timeout: float) -> None:
    """Kill what is in the group and below, and remove it; nothing when it is not there. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while True:
        processes.kill_all(pids(name), timeout)
        if _remove_directories(hierarchy.root / name for hierarchy in hierarchies()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the cgroup {name} still has processes after {timeout} s")
        time.sleep(0.005)


def _remove_directories(roots: Iterable[Path]) -> bool:
    """Whether all are gone; the kernel says EBUSY for a moment after the last process ended."""
    for root in roots:
        groups = [path for path in root.rglob("*") if path.is_dir()]
        for path in [*reversed(groups), root]:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
    return True
