"""``tavia up`` and ``tavia down``, whole: all services, a real cloud of namespaces, and every way to be killed."""

from __future__ import annotations

import json
import os
import signal
import socket

from instance_driver import Driver

from tavia.cli import report
from tavia.cli.progress import wait_until
from tavia.cli.up import api_answers


def services(driver: Driver) -> dict[str, int]:
    """Service -> pid, of those that run."""
    told = report.read(driver.embedded.services_file)
    return {name: one.process.pid for name, one in told.items() if one.running and one.process}


def test_up_leaves_an_api_that_answers_and_down_leaves_nothing(driver: Driver) -> None:
    driver.tavia("up")
    assert api_answers(driver.embedded)
    states = {row["service"]: row["state"] for row in json.loads(driver.tavia("status", "-f", "json").stdout)}
    assert set(states.values()) == {"running"}
    assert set(states) == {"supervisor", *(service.name for service in driver.embedded.services())}
    driver.tavia("down")
    assert driver.remains() == []


def test_a_second_up_changes_nothing(driver: Driver) -> None:
    driver.tavia("up")
    before, configuration = services(driver), driver.embedded.config_file.read_bytes()
    driver.tavia("up")
    assert services(driver) == before
    assert driver.embedded.config_file.read_bytes() == configuration


def test_a_killed_service_comes_back_by_itself(driver: Driver) -> None:
    driver.tavia("up")
    before = services(driver)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def all_new() -> bool:
        now = services(driver)
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    assert wait_until(all_new, 30)
    assert wait_until(lambda: api_answers(driver.embedded), 30)


def test_up_after_the_supervisor_was_killed_replaces_what_it_left(driver: Driver) -> None:
    driver.tavia("up")
    before = services(driver)
    supervisor = report.read_process(driver.embedded.supervisor_file)
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not supervisor.alive, 10)
    driver.tavia("up")
    assert set(services(driver)) == set(before)
    assert not set(services(driver).values()) & set(before.values())


def test_down_leaves_nothing_after_everything_was_killed(driver: Driver) -> None:
    driver.tavia("up")
    for pid in driver.pids():
        os.kill(pid, signal.SIGKILL)
    driver.tavia("down")
    assert driver.remains() == []


def test_down_leaves_nothing_when_services_are_frozen(driver: Driver) -> None:
    driver.tavia("up")
    for pid in driver.pids():
        os.kill(pid, signal.SIGSTOP)
    driver.tavia("down")
    assert driver.remains() == []


def test_two_instances_live_side_by_side(driver: Driver, second: Driver) -> None:
    driver.tavia("up")
    second.tavia("up")
    assert driver.embedded.api_port != second.embedded.api_port
    driver.tavia("down")
    assert driver.remains() == []
    assert api_answers(second.embedded)


def test_another_port_than_the_running_one_is_refused(driver: Driver) -> None:
    driver.tavia("up")
    refused = driver.tavia("up", "--api-port", str(driver.embedded.api_port + 1), ok=False)
    assert refused.returncode == 1
    assert "tavia down" in refused.stderr


def test_a_port_on_which_somebody_else_listens_is_told_at_once(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        refused = driver.tavia("up", "--api-port", str(port), ok=False)
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "another program" in refused.stderr
    assert services(driver) == {}


def test_an_api_of_another_instance_is_not_taken_for_ours(driver: Driver, second: Driver) -> None:
    driver.tavia("up")
    second.tavia("up")
    configuration = second.embedded.config_file
    ours, theirs = (f"bind_port = {one.embedded.api_port}" for one in (second, driver))
    configuration.write_text(configuration.read_text().replace(ours, theirs))
    assert api_answers(driver.embedded)
    assert not api_answers(second.embedded)


def test_files_of_somebody_else_are_neither_used_nor_removed(driver: Driver) -> None:
    driver.embedded.state_dir.mkdir()
    theirs = driver.embedded.state_dir / "thesis.txt"
    theirs.touch()
    assert "somebody else" in driver.tavia("up", ok=False).stderr
    driver.tavia("down")
    assert theirs.exists()
    theirs.unlink()


def test_a_service_that_cannot_start_is_told_with_its_own_last_words(driver: Driver) -> None:
    driver.tavia("up")
    supervisor = report.read_process(driver.embedded.supervisor_file)
    assert supervisor
    os.kill(supervisor.pid, signal.SIGTERM)
    assert wait_until(lambda: not supervisor.alive, 60)
    configuration = driver.embedded.config_file
    configuration.write_text(configuration.read_text().replace("lease_ttl", "").replace("heartbeat_key", "no_key"))
    refused = driver.tavia("up", ok=False)
    assert refused.returncode == 1
    assert "heartbeat_key" in refused.stderr
