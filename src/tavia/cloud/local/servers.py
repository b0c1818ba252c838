"""The daemon's compute: servers, each a sandbox forked by the zygote, with a record and a disk of its own.

The record comes before every effect. Whether a server runs is asked of the kernel each time (its PID 1's pid and
start time), so a record never claims more than is true, whoever was killed in between.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavia.cloud.local import cgroups, fabric, rules, sandbox, zygote
from tavia.cloud.local.instance import Instance
from tavia.cloud.local.networks import Networks
from tavia.cloud.local.processes import Process
from tavia.cloud.local.records import Records
from tavia.cloud.protocols import NotFound, Server, ServerSpec, ServerStatus
from tavia.model.seams import Seam, SeamError

LOG = logging.getLogger(__name__)

_DEATH = 10.0
"""Seconds for a killed sandbox to be gone."""
_INTERRUPTED = "the local cloud's daemon ended while it booted this server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A server on disk. ``booting`` until its sandbox has come up; ``process`` is its PID 1 as last started."""

    id: str
    name: str
    created_at: float
    tags: frozenset[str]
    port_ids: tuple[str, ...]
    booting: bool = True
    fault: str | None = None
    process: Process | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Record:
        """From its JSON form."""
        process = data["process"] and Process(**data["process"])
        return cls(**{**data, "tags": frozenset(data["tags"]), "port_ids": tuple(data["port_ids"]), "process": process})


def status(record: Record, *, alive: bool) -> ServerStatus:
    """What compute says of a server, given whether its PID 1 lives."""
    if record.fault:
        return ServerStatus.ERROR
    if record.booting:
        return ServerStatus.BUILDING
    return ServerStatus.ACTIVE if alive else ServerStatus.OFF


class Servers:
    """Safe for threads: one lock for the records, one per server for what takes longer."""

    def __init__(self, instance: Instance, networks: Networks, zygote_: zygote.Zygote, limits: cgroups.Limits) -> None:
        self._instance = instance
        self._networks = networks
        self._zygote = zygote_
        self._limits = limits
        self._records = Records(instance.directory / "servers", Record.of)
        self._lock = threading.Lock()
        self._server_locks: dict[str, threading.RLock] = {}

    def restore(self) -> None:
        """After a start of the daemon: what was half booted is cleared away and shows ERROR."""
        for record in self._records:
            if record.booting:
                self._stop(record)
                self._put(dataclasses.replace(record, booting=False, process=None, fault=_INTERRUPTED))

    # -- what there is ------------------------------------------------------------------------------------------

    def server(self, server_id: str) -> Server | None:
        """None when there is no such record."""
        record = self._records.get(server_id)
        return _view(record) if record else None

    def servers(self, tags: frozenset[str]) -> list[Server]:
        """Those that carry all of the tags, oldest first."""
        found = (record for record in self._records if tags <= record.tags)
        return [_view(record) for record in sorted(found, key=lambda record: record.created_at)]

    # -- life and death -----------------------------------------------------------------------------------------

    def boot(self, spec: ServerSpec) -> str:
        """See Compute. When the sandbox does not come up the server is there, in ERROR, with its fault."""
        require_haproxy()
        record = Record(
            id=str(uuid.uuid4()),
            name=spec.name,
            created_at=time.time(),
            tags=spec.tags,
            port_ids=tuple(spec.port_ids),
        )
        files = {_allowed(path): content for path, content in spec.files.items()}
        with self._of(record.id):
            self._claim(record)
            sandbox.make_disk(self._instance.server_directory(record.id), files)
            self._start(record)
        return record.id

    def power_on(self, server_id: str) -> None:
        """Nothing when it runs. Raises NotFound."""
        with self._of(server_id):
            record = self._records.get(server_id)
            if record is None:
                raise NotFound("server", server_id)
            if status(record, alive=_alive(record)) != ServerStatus.ACTIVE:
                self._stop(record)
                record = dataclasses.replace(record, booting=True, fault=None, process=None)
                self._put(record)
                self._start(record)

    def power_off(self, server_id: str) -> None:
        """Nothing when it is off or gone already."""
        with self._of(server_id):
            if record := self._records.get(server_id):
                self._stop(record)

    def delete(self, server_id: str) -> None:
        """Nothing when it is gone already."""
        with self._of(server_id):
            if record := self._records.get(server_id):
                self._stop(record)
                shutil.rmtree(self._instance.server_directory(server_id), ignore_errors=True)
                self._networks.set_device(record.port_ids, "")
                with self._lock:
                    self._records.remove(server_id)
        with self._lock:
            self._server_locks.pop(server_id, None)

    def attach_port(self, server_id: str, port_id: str) -> None:
        """Plug a port in, now where it runs, and whenever it is started. Raises NotFound, SeamError port-in-use."""
        with self._of(server_id):
            record = self._records.get(server_id)
            if record is None:
                raise NotFound("server", server_id)
            if port_id not in record.port_ids:
                record = dataclasses.replace(record, port_ids=(*record.port_ids, port_id))
                self._claim(record)
            name = rules.interface(port_id)
            if record.process and _alive(record) and not fabric.exists(name):
                # It has that name inside too: which others are free there, who lives there alone knows.
                fabric.batch(self._networks.plug(self._networks.port(port_id), name, str(record.process.pid)))

    def detach_port(self, server_id: str, port_id: str) -> None:
        """Unplug a port; nothing when it is not plugged or the server is gone."""
        with self._of(server_id):
            record = self._records.get(server_id)
            if record and port_id in record.port_ids:
                _unplug([port_id])
                self._networks.set_device([port_id], "")
                self._put(dataclasses.replace(record, port_ids=tuple(p for p in record.port_ids if p != port_id)))

    def _of(self, server_id: str) -> threading.RLock:
        """The lock of one server."""
        with self._lock:
            return self._server_locks.setdefault(server_id, threading.RLock())

    def _put(self, record: Record) -> None:
        with self._lock:
            self._records.put(record.id, record)

    def _claim(self, record: Record) -> None:
        """Write the record, which takes its ports. Raises NotFound, SeamError port-in-use."""
        for port_id in record.port_ids:
            self._networks.port(port_id)
        with self._lock:
            for other in self._records:
                taken = set(other.port_ids) & set(record.port_ids)
                if taken and other.id != record.id:
                    message = f"port {min(taken)} is in use by server {other.id}"
                    raise SeamError(Seam.BOOT, "port-in-use", message, permanent=True)
            self._records.put(record.id, record)
        self._networks.set_device(record.port_ids, record.id)

    def _start(self, record: Record) -> None:
        """Bring the sandbox up; what goes wrong becomes the server's fault."""
        try:
            process = self._bring_up(record)
        except (SeamError, OSError) as error:
            LOG.exception("server %s does not come up", record.id)
            self._stop(record)
            self._put(dataclasses.replace(record, booting=False, process=None, fault=str(error)))
        else:
            self._put(dataclasses.replace(record, booting=False, process=process))

    def _bring_up(self, record: Record) -> Process:
        plan = sandbox.Plan(
            hostname=record.name[:63],
            directory=self._instance.server_directory(record.id),
            cgroups=tuple(cgroups.create(self._cgroup(record), self._limits)),
        )
        pid, management, channel = self._zygote.fork(plan)
        with closing(channel):
            process = Process.of(pid)
            # Recorded before it is let go: a daemon that dies here leaves a sandbox that ends, or one we can find.
            self._put(dataclasses.replace(record, process=process))
            commands = ["link set lo up"]
            plugs: list[str] = []
            for number, port_id in enumerate(record.port_ids):
                port = self._networks.port(port_id)
                plugs += self._networks.plug(port, f"eth{number}", str(pid if number else management))
                if number == 0:
                    commands += self._networks.configure("eth0", port, gateway=True)
            try:
                fabric.batch(plugs)
                sandbox.start(channel, commands)
            except (SeamError, OSError):
                if process.alive:
                    raise
            zygote.receive(channel)
        return process

    def _stop(self, record: Record) -> None:
        """On return nothing of it runs and its interfaces are gone; its disk and its ports stay."""
        current = self._records.get(record.id) or record
        if current.process:
            current.process.kill(_DEATH)
        cgroups.remove(self._cgroup(record), _DEATH)
        _unplug(record.port_ids)

    def _cgroup(self, record: Record) -> str:
        return f"{self._instance.fabric}/{record.id}"


def _alive(record: Record) -> bool:
    return record.process is not None and record.process.alive


def _view(record: Record) -> Server:
    return Server(
        id=record.id,
        name=record.name,
        status=status(record, alive=_alive(record)),
        created_at=record.created_at,
        tags=record.tags,
        fault=record.fault,
    )


def _unplug(port_ids: Sequence[str]) -> None:
    """The kernel removes a dead sandbox's interfaces too, but up to a second later."""
    for port_id in port_ids:
        fabric.delete_interface(rules.interface(port_id))


def require_haproxy() -> None:
    """Raises SeamError haproxy-missing: a server without HAProxy would never serve."""
    if shutil.which("haproxy", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin") is None:
        message = "HAProxy is missing on this machine: apt-get install haproxy"
        raise SeamError(Seam.BOOT, "haproxy-missing", message, permanent=True)


def _allowed(path: str) -> Path:
    """The path of a file of the config drive. Raises SeamError file-outside."""
    wanted = Path(path)
    if ".." in wanted.parts or not wanted.is_relative_to(sandbox.CONFIG_DRIVE):
        message = f"the file {path} is not below {sandbox.CONFIG_DRIVE}"
        raise SeamError(Seam.BOOT, "file-outside", message, permanent=True)
    return wanted
