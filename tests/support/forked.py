"""Commands as processes of their own, forked from one that has imported what they import: most of what a start costs.

    worker = forked.start("tavia-worker", "--config-file", str(path), out=log)
    worker.wait(10)

The ``tavia-*`` services import Tavia, and what looks at the environment when it is imported, after the fork.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SERVICES = (
    *("alembic.command", "alembic.config", "cryptography.x509", "falcon", "gunicorn.app.base", "gunicorn.arbiter"),
    *("gunicorn.workers.gthread", "keystonemiddleware.auth_token", "oslo_config.cfg", "oslo_db.sqlalchemy.exc_filters"),
    *("oslo_log.log", "oslo_middleware", "oslo_policy.policy", "psutil", "pydantic", "pymysql"),
    *("sqlalchemy.dialects.mysql.pymysql", "sqlalchemy.dialects.sqlite", "urllib3", "webob"),
)
OPENSTACK = ("openstackclient.shell",)
AGENT = ("cryptography.x509", "falcon.asgi", "http.client", "uvicorn")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Forked:
    """As ``subprocess.Popen``. It leads a session of its own, and ends with pytest."""

    def __init__(self, pid: int, forker: Forker) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker
        self._end = os.pidfd_open(pid)

    def __del__(self) -> None:
        os.close(self._end)

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._await(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended. Raises subprocess.TimeoutExpired."""
        status = self._await(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._end, signal.SIGKILL)

    def _await(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._end, select.POLLIN)
            if ended.poll(None if timeout is None else 1000 * timeout):
                self.returncode = self._forker.ask(reap=self.pid)
        return self.returncode


class Forker:
    """The process that has imported these modules, and forks."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__, *modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        atexit.register(self._process.kill)

    def ask(self, **question: Any) -> int:
        """The pid of a new process, or the exit status of an old one that has ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def forker(modules: tuple[str, ...]) -> Forker:
    """One for all tests of this process."""
    return Forker(modules)


def start(
    command: str,
    *arguments: str,
    out: Path,
    err: Path | None = None,
    modules: tuple[str, ...] = SERVICES,
    environment: Mapping[str, str] = os.environ,
    directory: Path = Path(),
    inside: int | None = None,
) -> Forked:
    """Begin it; ``command`` is one of those that Python packages have installed. What it says goes to these files.

    With ``inside`` it is the one child of what is returned, in the namespaces of this process: network, mounts, pids.
    """
    files = {"out": str(out), "err": str(err or out)}
    asked = {"environment": dict(environment), "directory": str(directory.absolute()), **files}
    by = forker(modules)
    return Forked(by.ask(command=[command, *arguments], inside=inside, **asked), by)


def openstack(clouds_file: Path, cloud: str, *words: str) -> subprocess.CompletedProcess[str]:
    """``openstack`` with these words, and nothing of this process's environment, once it has ended."""
    with TemporaryDirectory() as home:
        directory = Path(home)
        out, err = directory / "out", directory / "err"
        environment = {"PATH": os.environ["PATH"], "HOME": home, "OS_CLOUD": cloud}
        environment |= {"OS_CLIENT_CONFIG_FILE": str(clouds_file)}
        where: dict[str, Any] = {"out": out, "err": err, "environment": environment, "directory": directory}
        process = start("openstack", *words, modules=OPENSTACK, **where)
        status = process.wait(200)
        return subprocess.CompletedProcess(["openstack", *words], status, out.read_text(), err.read_text())


def _serve() -> list[str]:
    """Answer what :meth:`Forker.ask` asks; returns in each child, with its command."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "reap" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["reap"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _become(asked)
            return list(asked["command"])
    raise SystemExit


def _become(asked: Mapping[str, Any]) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    if asked["inside"] is not None:
        _move_inside(asked["inside"])


def _move_inside(pid: int) -> None:
    """Only children are in a namespace of pids that was entered, pid_namespaces(7)."""
    namespaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt", "pid")]
    for namespace in namespaces:
        if LIBC.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), f"setns into the namespaces of {pid}")
        os.close(namespace)
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    if "openstackclient.shell" in sys.argv:  # the modules of its commands are imported by the first command
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.suppress(SystemExit),
        ):
            sys.modules["openstackclient.shell"].main(["loadbalancer", "list", "--help"])
    commands = {command.name: command for command in entry_points(group="console_scripts")}
    name, *arguments = _serve()
    sys.argv = [str(Path(sys.executable).parent / name), *arguments]
    sys.exit(commands[name].load()())
