"""``tavia status``: what runs and what keeps failing."""

from __future__ import annotations

from tavia.cli import report
from tavia.cli.embedded import Embedded

COLUMNS = ("service", "state", "pid", "failures", "last_end", "log")


def rows(embedded: Embedded) -> list[tuple[str, str, int | None, int, str | None, str]]:
    """One row a service, the supervisor first; in a row ``failures`` counts those since it last ran for a while."""
    supervisor = report.read_process(embedded.supervisor_file)
    reports = {"supervisor": report.ServiceReport(supervisor, 0, None)} | report.read(embedded.services_file)
    names = ["supervisor", *(service.name for service in embedded.services())]
    return [_row(embedded, name, reports.get(name)) for name in names]


def _row(
    embedded: Embedded, name: str, told: report.ServiceReport | None
) -> tuple[str, str, int | None, int, str | None, str]:
    log = str(embedded.log_dir / f"{name}.log")
    if told is None:
        return name, "not started", None, 0, None, log
    if told.running and told.process:
        return name, "running", told.process.pid, told.failures, told.last_end, log
    return name, "failing" if told.failures else "stopped", None, told.failures, told.last_end, log
