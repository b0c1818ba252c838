"""``tavia up`` and ``tavia down``, whole: all services, a real cloud of namespaces, and every way to be killed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest
from instance_driver import Driver, driving
from ports import free_port

from tavia.cli import report
from tavia.cli.progress import wait_until
from tavia.cli.up import api_answers


def services(driver: Driver) -> dict[str, int]:
    """Service -> pid, of those that run."""
    told = report.read(driver.embedded.services_file)
    return {name: one.process.pid for name, one in told.items() if one.running and one.process}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """An instance that runs; each test but the last leaves it so."""
    with driving(tmp_path_factory.mktemp("running") / "state") as made:
        made.tavia("up")
        yield made


def test_up_leaves_an_api_that_answers_and_all_services_running(running: Driver) -> None:
    assert api_answers(running.embedded)
    states = {row["service"]: row["state"] for row in json.loads(running.tavia("status", "-f", "json").stdout)}
    assert set(states.values()) == {"running"}
    assert set(states) == {"supervisor", *(service.name for service in running.embedded.services())}


def test_a_second_up_changes_nothing(running: Driver) -> None:
    before, configuration = services(running), running.embedded.config_file.read_bytes()
    running.tavia("up")
    assert services(running) == before
    assert running.embedded.config_file.read_bytes() == configuration


def test_another_port_than_the_running_one_is_refused(running: Driver) -> None:
    refused = running.tavia("up", "--api-port", str(running.embedded.api_port + 1), ok=False)
    assert refused.returncode == 1
    assert "tavia down" in refused.stderr


def test_another_instance_lives_beside_it_and_leaves_nothing(running: Driver, second: Driver) -> None:
    second.tavia("up")
    assert api_answers(second.embedded)
    configuration = second.embedded.config_file
    ours, theirs = (f"bind_port = {one.embedded.api_port}" for one in (second, running))
    assert ours != theirs
    configuration.write_text(configuration.read_text().replace(ours, theirs))
    assert not api_answers(second.embedded), "the other's API is not taken for its own"
    second.tavia("down")
    assert second.remains() == []
    assert api_answers(running.embedded)


def test_a_killed_service_comes_back_by_itself_on_its_port(running: Driver) -> None:
    before = services(running)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def all_new() -> bool:
        now = services(running)
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    # The port is never free meanwhile, for somebody else to take.
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(("127.0.0.1", running.embedded.api_port))
    assert wait_until(all_new, 30)
    assert wait_until(lambda: api_answers(running.embedded), 30)


def test_up_after_the_supervisor_was_killed_replaces_what_it_left(running: Driver) -> None:
    before = services(running)
    supervisor = report.read_process(running.embedded.supervisor_file)
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not supervisor.alive, 10)
    running.tavia("up")
    assert set(services(running)) == set(before)
    assert not set(services(running).values()) & set(before.values())


def test_down_leaves_nothing_when_services_are_frozen(running: Driver) -> None:
    for pid in running.pids():
        os.kill(pid, signal.SIGSTOP)
    running.tavia("down")
    assert running.remains() == []


def test_down_leaves_nothing_after_everything_was_killed(driver: Driver) -> None:
    driver.tavia("up")
    for pid in driver.pids():
        os.kill(pid, signal.SIGKILL)
    driver.tavia("down")
    assert driver.remains() == []


def test_a_port_on_which_somebody_else_listens_is_told_at_once(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        refused = driver.tavia("up", "--api-port", str(port), ok=False)
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "another program" in refused.stderr
    assert services(driver) == {}


def test_files_of_somebody_else_are_neither_used_nor_removed(driver: Driver) -> None:
    driver.embedded.state_dir.mkdir()
    theirs = driver.embedded.state_dir / "thesis.txt"
    theirs.touch()
    assert "somebody else" in driver.tavia("up", ok=False).stderr
    driver.tavia("down")
    assert theirs.exists()
    theirs.unlink()


def test_a_service_that_cannot_start_is_told_with_its_own_last_words(driver: Driver) -> None:
    driver.embedded.state_dir.mkdir()
    driver.embedded.marker.touch()
    drivers = "\n".join(f"{kind}_driver = {kind}_noop_driver" for kind in ("compute", "network", "image"))
    driver.embedded.config_file.write_text(
        f"[api_settings]\nauth_strategy = noauth\nbind_port = {free_port()}\n[controller_worker]\n{drivers}\n"
        f"[database]\nconnection = {driver.embedded.database}\n"
    )
    refused = driver.tavia("up", ok=False)
    assert refused.returncode == 1
    assert "heartbeat_key" in refused.stderr
