"""``tavia up``: from nothing, or from whatever a crash left, to an instance whose API answers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from rich.console import Console

from tavia.cli import preflight, report
from tavia.cli.embedded import CONTROLLERS, Embedded, listen
from tavia.cli.progress import step, wait_until
from tavia.cloud.local import cgroups
from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from tavia.store.database import Database

CLOUD_TIMEOUT, HEALTHY_TIMEOUT = 30.0, 90.0
FAILURES_TO_GIVE_UP = 3
STOP_TIMEOUT = 60.0
NEUTRON = "/network/v2.0"
"""Where the API stands in for Neutron, see tavia.api.local_network."""
LONGEST_SOCKET_PATH = 107
"""Bytes, unix(7): ``sun_path`` has 108 with the final zero."""


def up(embedded: Embedded, console: Console, api_port: int | None) -> subprocess.Popen[bytes] | None:
    """Make the instance run; the supervisor that was started, None when it ran already.

    Raises SeamError with what the operator can do; no service is left running then.
    """
    with console.status("looking at this machine"):
        preflight.check()
    with locked(embedded):
        if report.read_process(embedded.supervisor_file) and embedded.config_file.exists():
            _check_port(embedded, api_port)
            with step(console, f"running already: {embedded.api_url}"):
                wait_until_healthy(embedded)
            embedded.write_clouds_yaml()
            return None
        _claim(embedded)
        cgroups.remove(embedded.services_cgroup, timeout=STOP_TIMEOUT)
        with _listen(embedded, api_port) as api_socket:
            port = api_socket.getsockname()[1]
            _prepare(embedded, console)
            supervisor = _start_supervisor(embedded, api_socket)
        try:
            _configure(embedded, console, port)
            with step(console, f"API, worker, health manager and housekeeping run: {embedded.api_url}"):
                wait_until_healthy(embedded)
            embedded.write_clouds_yaml()
        except BaseException:
            stop(supervisor)
            raise
        return supervisor


@contextmanager
def locked(embedded: Embedded) -> Iterator[None]:
    """The state directory, made if needed, for us alone. Raises SeamError state-dir-busy."""
    embedded.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = os.open(embedded.state_dir, os.O_RDONLY)
    try:
        _lock(directory, embedded.state_dir)
        yield
    finally:
        os.close(directory)


def _lock(directory: int, state_dir: Path) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another tavia up or down is at work on {state_dir}; wait for it"
        raise SeamError(Seam.CONTROL, "state-dir-busy", message) from None


def _claim(embedded: Embedded) -> None:
    """Mark the state directory as ours: ``tavia down`` removes it whole, so it must hold nobody else's files.

    Raises SeamError state-dir-not-ours, state-dir-too-long.
    """
    if not embedded.marker.exists() and any(embedded.state_dir.iterdir()):
        message = f"{embedded.state_dir} has files of somebody else; name an empty directory with --state-dir"
        raise SeamError(Seam.CONTROL, "state-dir-not-ours", message)
    if len(os.fsencode(embedded.instance.socket)) > LONGEST_SOCKET_PATH:
        message = f"the path {embedded.state_dir} is too long for unix sockets in it; name a shorter --state-dir"
        raise SeamError(Seam.CONTROL, "state-dir-too-long", message)
    embedded.state_dir.chmod(0o700)
    embedded.marker.touch()


def _prepare(embedded: Embedded, console: Console) -> None:
    """What must be there before any service starts; what is there already stays."""
    from tavia import pki  # noqa: PLC0415  both are slow to import, and not needed when all runs already
    from tavia.store import migrate  # noqa: PLC0415

    embedded.services_file.unlink(missing_ok=True)
    embedded.log_dir.mkdir(mode=0o700, exist_ok=True)
    with step(console, "two certificate authorities"):
        pki.init(embedded.certificates)
    with step(console, "database at this release's schema"):
        migrate.upgrade(embedded.database)


def _listen(embedded: Embedded, api_port: int | None) -> socket.socket:
    """First of all, so that nobody else takes the port meanwhile."""
    if not embedded.config_file.exists():
        return listen(api_port)
    _check_port(embedded, api_port)
    return listen(embedded.api_port)


def _start_supervisor(embedded: Embedded, api_socket: socket.socket) -> subprocess.Popen[bytes]:
    command = ["-m", "tavia.cli.background", "--state-dir", str(embedded.state_dir)]
    with (embedded.log_dir / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command, "--api-socket", str(api_socket.fileno())],
            pass_fds=(api_socket.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=os.environ | {"PATH": preflight.search_path()},
            start_new_session=True,
        )


def _configure(embedded: Embedded, console: Console, port: int) -> None:
    with step(console, "a cloud of network namespaces and bridges"):
        if not wait_until(lambda: _cloud_answers(embedded), CLOUD_TIMEOUT):
            raise _failed(embedded, "tavia-local-cloud")
    if not embedded.config_file.exists():
        embedded.write_configuration(port)


def _check_port(embedded: Embedded, api_port: int | None) -> None:
    if api_port not in (None, embedded.api_port):
        message = f"this instance's API is on port {embedded.api_port}; to change it: tavia down, then up again"
        raise SeamError(Seam.CONTROL, "port-fixed", message)


def wait_until_healthy(embedded: Embedded) -> None:
    """Return when all services say so and the API answers. Raises SeamError with the last words of what doesn't."""
    from tavia.store.database import Database  # noqa: PLC0415  slow to import

    database = Database.connect(embedded.database)
    if not wait_until(lambda: not _missing(embedded, database) and api_answers(embedded), HEALTHY_TIMEOUT):
        raise _failed(embedded, next(iter(_missing(embedded, database)), "tavia-api"))


def _missing(embedded: Embedded, database: Database) -> list[str]:
    """The services that do not run; that a controller's process is there is not enough, it must have listed itself."""
    from tavia.store import services  # noqa: PLC0415  slow to import

    reports = _reports(embedded)
    with database.read() as conn:
        listed = {(process.name, process.pid) for process in services.known(conn)}
    return [
        service.name
        for service in embedded.services()
        if not _runs(reports, service.name)
        or (service.name in CONTROLLERS and (service.name, _pid(reports[service.name])) not in listed)
    ]


def _pid(told: report.ServiceReport) -> int | None:
    return told.process.pid if told.process else None


def _cloud_answers(embedded: Embedded) -> bool:
    _reports(embedded)
    return embedded.cloud_answers()


def _reports(embedded: Embedded) -> dict[str, report.ServiceReport]:
    """What the supervisor says. Raises SeamError at once when a service keeps failing: waiting would not help."""
    reports = report.read(embedded.services_file)
    for name, told in reports.items():
        if told.failures >= FAILURES_TO_GIVE_UP:
            raise _failed(embedded, name)
    return reports


def _runs(reports: Mapping[str, report.ServiceReport], service: str) -> bool:
    return service in reports and reports[service].running


def api_answers(embedded: Embedded) -> bool:
    """Whether the API's own health check passes, and it is our API: another instance has other networks."""
    with suppress(urllib3.exceptions.HTTPError, SeamError):
        if _get(embedded, "/healthcheck").status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            return False
        found = _get(embedded, f"{NEUTRON}/networks/{embedded.cloud.networks()[0].id}")
        return found.status == HTTPStatus.OK
    return False


def _get(embedded: Embedded, path: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", f"{embedded.api_url}{path}", timeout=2.0, retries=False)


def _failed(embedded: Embedded, service: str) -> SeamError:
    """The service's last words, from its log."""
    log = embedded.log_dir / f"{service}.log"
    words = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else ["(it never started)"]
    return SeamError(
        Seam.CONTROL, "service-failed", "\n  ".join([f"{service} does not come up; its last words in {log}:", *words])
    )


def stop(supervisor: subprocess.Popen[bytes]) -> None:
    """End the supervisor and with it all services. The amphorae carry on."""
    supervisor.terminate()
    supervisor.wait(STOP_TIMEOUT)


def stay(supervisor: subprocess.Popen[bytes]) -> int:
    """In the foreground: until the supervisor ends, or SIGINT or SIGTERM tells us to end it. Its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.terminate())
    return supervisor.wait()
