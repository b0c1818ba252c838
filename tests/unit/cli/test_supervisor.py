"""The supervisor, with real processes: it starts in order, restarts what dies, ends everything on a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tavia.cli import report
from tavia.cli.supervisor import Service, Supervisor, describe_end, pause_before_restart

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")


class Watched:
    """A supervisor over services, in this process, and what it reports."""

    def __init__(self, directory: Path) -> None:
        self.log_dir = directory
        self.report_file = directory / "services.json"

    def run(self, services: list[Service], during: Callable[[], None]) -> None:
        """Run the services; when ``during``, which runs beside them, is done, send SIGTERM to ourselves."""

        async def both() -> None:
            running = asyncio.create_task(Supervisor(services, self.log_dir, self.report_file).run())
            try:
                await asyncio.to_thread(during)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(running, 20)

        asyncio.run(both())

    def reports(self) -> dict[str, report.ServiceReport]:
        return report.read(self.report_file)

    def pid(self, name: str) -> int | None:
        told = self.reports().get(name)
        return told.process.pid if told and told.running and told.process else None


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_log_that_has_grown_large_is_set_aside_when_its_service_starts(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tavia.cli.supervisor.LARGEST_LOG", 10)
    (tmp_path / "sleeper.log").write_text("more than ten bytes")
    (tmp_path / "sleeper.log.1").write_text("still older")
    log = tmp_path / "sleeper.log"
    watched.run([Service("sleeper", SLEEPER)], lambda: until(lambda: log.exists() and log.read_text() == "up\n"))
    assert (tmp_path / "sleeper.log.1").read_text() == "more than ten bytes"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0.1), (1, 0.2), (5, 3.2), (12, 30.0), (5000, 30.0)])
def test_the_pause_before_a_restart_doubles_up_to_half_a_minute(failures: int, seconds: float) -> None:
    assert pause_before_restart(failures) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("returncode", "words"), [(0, "exited with 0"), (3, "exited with 3"), (-9, "was killed by SIGKILL")]
)
def test_an_end_is_told_in_words(returncode: int, words: str) -> None:
    assert describe_end(returncode) == words


def test_a_killed_service_is_started_again(watched: Watched) -> None:
    def kill_and_wait() -> None:
        until(lambda: watched.pid("one"))
        first = watched.pid("one")
        assert first
        os.kill(first, signal.SIGKILL)
        until(lambda: watched.pid("one") not in (None, first))

    watched.run([Service("one", SLEEPER)], kill_and_wait)
    assert watched.reports()["one"].last_end == "was killed by SIGKILL"


def test_a_service_that_keeps_failing_is_counted_and_its_words_are_kept(watched: Watched) -> None:
    broken = Service("broken", (sys.executable, "-c", "raise SystemExit('no such database')"))
    watched.run([broken], lambda: until(lambda: (r := watched.reports().get("broken")) and r.failures >= 3))
    assert watched.reports()["broken"].last_end == "exited with 1"
    assert "no such database" in (watched.log_dir / "broken.log").read_text()


def test_a_program_that_does_not_exist_is_a_failure_like_any_other(watched: Watched) -> None:
    missing = Service("missing", ("/nonexistent/program",))
    watched.run([missing], lambda: until(lambda: (r := watched.reports().get("missing")) and r.failures >= 2))
    assert "could not be started" in (watched.reports()["missing"].last_end or "")


def test_a_service_waits_until_it_may_start_and_those_after_it_wait_too(watched: Watched) -> None:
    allowed: list[bool] = []
    services = [
        Service("first", SLEEPER),
        Service("second", SLEEPER, may_start=lambda: bool(allowed)),
        Service("third", SLEEPER),
    ]

    def look_then_allow() -> None:
        until(lambda: watched.pid("first"))
        assert set(watched.reports()) == {"first"}
        allowed.append(True)
        until(lambda: watched.pid("third"))

    watched.run(services, look_then_allow)
    assert list(watched.reports()) == ["first", "second", "third"]


def test_a_service_finds_its_socket_each_time_it_is_started_and_clients_are_kept_waiting(watched: Watched) -> None:
    serve_one = (
        "import os, socket\n"
        "assert (os.environ['LISTEN_PID'], os.environ['LISTEN_FDS']) == (str(os.getpid()), '1')\n"
        "client, _ = socket.socket(fileno=3).accept()\n"
        "client.sendall(b'served')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def ask_three_times() -> None:
            for _ in range(3):
                with socket.create_connection(listening.getsockname(), 20) as client:
                    assert client.recv(10) == b"served"

        watched.run([Service("one", (sys.executable, "-c", serve_one), listening=listening.fileno())], ask_three_times)


def test_sigterm_ends_all_services_the_last_started_first(watched: Watched, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(ends)!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    services = [Service(name, (sys.executable, "-c", script, name)) for name in ("a", "b", "c")]

    def all_ready() -> bool:
        logs = [tmp_path / f"{service.name}.log" for service in services]
        return all(log.exists() and "ready" in log.read_text() for log in logs)

    watched.run(services, lambda: until(all_ready))
    assert ends.read_text().split() == ["c", "b", "a"]
    assert not any(told.running for told in watched.reports().values())


def test_a_service_that_ignores_sigterm_is_killed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tavia.cli.supervisor.STOP_TIMEOUT", 0.3)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    log = watched.log_dir / "deaf.log"
    watched.run(
        [Service("deaf", (sys.executable, "-c", script))],
        lambda: until(lambda: log.exists() and "deaf" in log.read_text()),
    )
    assert not watched.reports()["deaf"].running
