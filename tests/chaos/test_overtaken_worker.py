"""Two who believe that they are in charge: a worker that was frozen past its lease, an amphora that was replaced."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import killable_worker
import pytest
from instance import Balancer, Instance, eventually
from killable_worker import UNKILLED
from requester import VIP_PORT


@pytest.fixture
def balancer(instance: Instance) -> Balancer:
    made = instance.balancer("overtaken")
    made.await_active()
    made.await_served_by("red", "green")
    return made


def weight(balancer: Balancer, value: int) -> None:
    balancer.change("PUT", balancer.member_path("red"), member={"weight": value})


def is_stopped(pid: int) -> bool:
    """By SIGSTOP, proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def console(instance: Instance, amphora: dict[str, Any]) -> str:
    """What the amphora's agent logged."""
    return (instance.embedded.instance.server_directory(amphora["compute_id"]) / "console.log").read_text()


def listens(instance: Instance, amphora: dict[str, Any]) -> bool:
    """Whether HAProxy does inside the amphora."""
    inside = ["nsenter", "-n", "-t", str(instance.pid_one(amphora).pid)]
    found = subprocess.run([*inside, "ss", "-Hltn", f"sport = :{VIP_PORT}"], capture_output=True, check=True)
    return bool(found.stdout)


def test_a_worker_frozen_past_its_lease_is_refused_by_amphorae_and_database(
    instance: Instance, balancer: Balancer
) -> None:
    with instance.frozen("tavia-worker"):
        weight(balancer, 100)
        frozen = killable_worker.start(instance, balancer.id, "stopped before", 0, effects=["put_bundle"])
        pid = frozen.pid or 0
        eventually(lambda: is_stopped(pid), "it stands still with a bundle in its hand")
    weight(balancer, 0)
    balancer.await_active()
    balancer.await_served_by("green")
    before = balancer.operations()
    assert [operation["state"] for operation in before[-2:]] == ["lost", "done"]
    with instance.traffic(balancer) as seen:
        os.kill(pid, signal.SIGCONT)
        frozen.join(30)
        assert frozen.exitcode == UNKILLED
        eventually(lambda: len(seen.answers) > 50, "requests are sent")
    assert set(seen.answers) == {"green"}
    assert balancer.operations() == before
    for amphora in balancer.amphorae():
        assert "PUT /bundle refused: control/fence-refused" in console(instance, amphora)


def test_a_replaced_amphora_that_comes_back_gets_no_traffic_and_is_removed(
    instance: Instance, balancer: Balancer
) -> None:
    old, _ = balancer.amphorae()
    with instance.frozen("tavia-worker"):
        balancer.change("PUT", f"loadbalancers/{balancer.id}/failover")
        worker = killable_worker.start(instance, balancer.id, "before", 0, effects=["delete"])
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        assert old["id"] not in {amphora["id"] for amphora in balancer.amphorae()}
        instance.cloud.power_on(old["compute_id"])
        eventually(lambda: listens(instance, old), "it serves what it served")
        with instance.traffic(balancer) as seen:
            eventually(lambda: len(seen.answers) > 100, "requests are sent")
            assert listens(instance, old)
        assert seen.failures == []
        assert instance.rows("SELECT status FROM amphora WHERE id = :id", id=old["id"]) == [
            {"status": "PENDING_DELETE"}
        ]
    eventually(lambda: len(balancer.owned_servers()) == 2, "it is removed")
    assert instance.cloud.server(old["compute_id"]) is None
    balancer.await_active()
