"""``tavia down`` after ``kill -9`` of half of everything leaves nothing, and the neighbour's traffic flows on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from instance import CONTROLLERS, Instance, eventually, running

from tavia.cloud.local.processes import Process


def traces(instance: Instance, amphorae: list[Process]) -> list[str]:
    """What of it the machine still has. Bridges and veths go with the namespaces that they are in."""
    fabric, directory = instance.embedded.instance.fabric, str(instance.embedded.state_dir)
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [
        *instance.driver.remains(),
        *(f"process {process.pid}" for process in amphorae if process.alive),
        *(line for line in mounts if fabric in line or directory in line),
    ]


def test_down_after_kill_9_leaves_nothing_and_another_instance_with_the_same_addresses_serves_on(
    whole: Instance, tmp_path: Path
) -> None:
    neighbour = whole.balancer("neighbour")
    neighbour.await_active()
    neighbour.await_served()
    with running(tmp_path / "s") as doomed, whole.traffic(neighbour) as seen:
        balancer = doomed.balancer("doomed")
        balancer.await_active()
        balancer.await_served()
        sandboxes = [doomed.server_process(server.id) for server in balancer.owned_servers()]
        doomed.balancer("half-made when all is killed")
        doomed.kill(doomed.supervisor(), doomed.service("tavia-local-cloud"), *map(doomed.service, CONTROLLERS))
        doomed.kill(sandboxes[0])
        os.kill(sandboxes[1].pid, signal.SIGSTOP)
        doomed.driver.tavia("down")
        assert traces(doomed, sandboxes) == []
        eventually(lambda: len(seen.answers) > 50, "the neighbour was asked")
    assert seen.failures == []
