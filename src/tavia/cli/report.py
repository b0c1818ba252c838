"""What the supervisor tells the commands about itself and its services, as files in the state directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tavia.cloud.local.processes import Process
from tavia.cloud.local.records import write_atomically


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """One service: its process, None between two starts; its failures in a row; in words how it last ended."""

    process: Process | None
    failures: int
    last_end: str | None

    @property
    def running(self) -> bool:
        """Whether it runs at this moment."""
        return self.process is not None and self.process.alive


def write(path: Path, reports: Mapping[str, ServiceReport]) -> None:
    """Replace the report on all services, by name in the order of their start."""
    write_atomically(path, json.dumps({name: asdict(report) for name, report in reports.items()}).encode())


def read(path: Path) -> dict[str, ServiceReport]:
    """The report on all services; empty before the first."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return {
        name: ServiceReport(data["process"] and Process(**data["process"]), data["failures"], data["last_end"])
        for name, data in found.items()
    }


def write_process(path: Path, process: Process) -> None:
    """Record one process."""
    write_atomically(path, json.dumps(asdict(process)).encode())


def read_process(path: Path) -> Process | None:
    """The recorded process when it still runs."""
    try:
        process = Process(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    return process if process.alive else None
