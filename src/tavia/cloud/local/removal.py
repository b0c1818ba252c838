"""Remove an instance of the local cloud from this machine without its daemon, also after a ``kill -9`` of anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tavia.cloud.local import cgroups, fabric, processes
from tavia.cloud.local.instance import NETNS_DIR, Instance
from tavia.cloud.local.records import Records

_TIMEOUT = 20.0


def teardown(state_dir: Path) -> None:
    """Kill and remove everything of the instance: processes, namespaces, cgroups, records and disks.

    The daemon goes first, so that nothing new comes up. Nothing happens when there is no such instance. The caller
    may itself be in the instance's cgroup. Raises TimeoutError, OSError when something cannot be removed.
    """
    instance = Instance.of(state_dir)
    _leave_cgroup(instance)
    for name in instance.namespaces:
        processes.kill_all(processes.in_network(NETNS_DIR / name), _TIMEOUT)
    if instance.directory.exists():
        for process in Records(instance.directory / "servers", _process):
            if process:
                process.kill(_TIMEOUT)
    cgroups.remove(instance.fabric, _TIMEOUT)
    for name in instance.namespaces:
        fabric.delete_namespace(name)
    instance.socket.unlink(missing_ok=True)
    if instance.directory.exists():
        shutil.rmtree(instance.directory)


def _process(server: Mapping[str, Any]) -> processes.Process | None:
    """PID 1 of a server's record."""
    return processes.Process(**server["process"]) if server["process"] else None


def _leave_cgroup(instance: Instance) -> None:
    if os.getpid() in cgroups.pids(instance.fabric):
        for hierarchy in cgroups.hierarchies():
            with suppress(FileNotFoundError):
                (hierarchy.root / "cgroup.procs").write_text(str(os.getpid()))
