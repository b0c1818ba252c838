"""Whatever is killed: servers run on, a new daemon finds them, and teardown leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from local_cloud import LocalCloud, eventually, within

from tavia.cloud.local import cgroups, processes, teardown
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.protocols import Port, ServerStatus
from tavia.model.seams import SeamError


def zygote(cloud: LocalCloud) -> int:
    """The daemon's child."""
    assert cloud.daemon
    children = Path(f"/proc/{cloud.daemon.pid}/task/{cloud.daemon.pid}/children").read_text().split()
    found = [int(pid) for pid in children if "local.zygote" in Path(f"/proc/{pid}/cmdline").read_text()]
    return found[0]


def test_a_killed_daemon_harms_no_server_and_a_new_one_finds_them_all(cloud: LocalCloud) -> None:
    machines = [cloud.boot(name=f"amphora-{number}") for number in range(3)]
    cloud.client.power_off(machines[2].id)
    networks, ports, servers = cloud.client.networks(), cloud.client.ports(), cloud.client.servers()
    pids = [cloud.pid(machine) for machine in machines[:2]]
    assert cloud.stop(signal.SIGKILL) == -signal.SIGKILL
    assert cloud.run(machines[0], "echo alive") == "alive\n"

    cloud.start()
    assert (cloud.client.networks(), cloud.client.ports(), cloud.client.servers()) == (networks, ports, servers)
    assert [cloud.pid(machine) for machine in machines[:2]] == pids
    cloud.client.power_on(machines[2].id)
    eventually(lambda: cloud.run(machines[2], "echo alive") == "alive\n", "the third is back")


def test_a_stopped_daemon_leaves_the_data_plane_running(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    assert cloud.stop(signal.SIGTERM) == 0
    assert cloud.run(machine, "echo alive") == "alive\n"


def test_a_server_that_died_while_no_daemon_ran_is_off(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    pid = cloud.pid(machine)
    cloud.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    cloud.start()
    assert cloud.status(machine) == ServerStatus.OFF


def test_another_process_with_the_same_pid_is_not_taken_for_the_server(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.client.power_off(machine.id)
    cloud.stop(signal.SIGKILL)
    record = cloud.instance.directory / "servers" / f"{machine.id}.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "process": {**content["process"], "pid": os.getpid()}}))
    cloud.start()
    assert cloud.status(machine) == ServerStatus.OFF
    cloud.client.delete(machine.id)


def test_a_daemon_killed_at_any_moment_of_a_boot_leaves_no_server_in_limbo(cloud: LocalCloud) -> None:
    for milliseconds in (1, 3, 6, 10, 15, 20, 30, 45):
        ports = cloud.port("lb-mgmt-net"), cloud.port("demo-net")
        booting = threading.Thread(target=lambda ports=ports: try_boot(cloud, *ports))
        booting.start()
        booting.join(milliseconds / 1000)
        cloud.restart()
        booting.join()
        for server in cloud.client.servers():
            running = bool(cgroups.pids(f"{cloud.instance.fabric}/{server.id}"))
            assert (server.status, running) in {
                (ServerStatus.ACTIVE, True),
                (ServerStatus.ERROR, False),
                (ServerStatus.OFF, False),
            }
            cloud.client.delete(server.id)
        for port in ports:
            cloud.client.delete_port(port.id)


def try_boot(cloud: LocalCloud, *ports: Port) -> None:
    with suppress(SeamError):
        cloud.boot_only(*ports)


def test_a_boot_that_the_daemon_did_not_survive_shows_error(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.stop(signal.SIGKILL)
    record = cloud.instance.directory / "servers" / f"{machine.id}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "booting": True}))
    cloud.start()
    server = cloud.server(machine)
    assert (server.status, server.fault is not None) == (ServerStatus.ERROR, True)
    assert cgroups.pids(f"{cloud.instance.fabric}/{machine.id}") == set()


def test_a_killed_zygote_harms_no_server_and_is_replaced(cloud: LocalCloud) -> None:
    machine = cloud.boot(name="before")
    os.kill(zygote(cloud), signal.SIGKILL)
    assert cloud.boot(name="after")
    assert cloud.run(machine, "echo alive") == "alive\n"
    assert cloud.status(machine) == ServerStatus.ACTIVE


def test_a_second_daemon_for_the_same_directory_refuses(cloud: LocalCloud) -> None:
    command = [sys.executable, "-m", "tavia.cloud.local.service", "--state-dir", str(cloud.instance.state_dir)]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 1
    assert "local-cloud-running" in second.stderr
    assert cloud.client.networks()


def test_two_instances_with_the_same_addresses_do_not_see_each_other(cloud: LocalCloud, tmp_path: Path) -> None:
    other = LocalCloud(tmp_path / "other")
    try:
        other.start()
        mine, theirs = cloud.boot(name="mine"), other.boot(name="theirs")
        assert mine.address(0) == theirs.address(0)
        assert cloud.run(mine, "hostname") == "mine\n"
        assert other.run(theirs, "hostname") == "theirs\n"
        other.remove()
        assert cloud.run(mine, "hostname") == "mine\n"
    finally:
        other.remove()


def test_teardown_leaves_nothing_after_everything_was_killed(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    host = cloud.client.attach_host("backend", cloud.network_id("demo-net"))
    with subprocess.Popen(["ip", "netns", "exec", host, "sleep", "60"]) as process:
        eventually(lambda: processes.in_network(NETNS_DIR / host), "it runs there")
        os.kill(zygote(cloud), signal.SIGKILL)
        cloud.stop(signal.SIGKILL)
        assert any("namespace" in left for left in cloud.leftovers())
        assert any("process" in left for left in cloud.leftovers())
        teardown(cloud.instance.state_dir)
        assert cloud.leftovers() == []
        assert process.wait(5) == -signal.SIGKILL
    assert not cloud.instance.server_directory(machine.id).exists()


def test_teardown_spares_the_caller_in_the_services_cgroup(cloud: LocalCloud) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tavia.cloud.local import cgroups, teardown\n"
        f"cgroups.join('{cloud.instance.fabric}/services', os.getpid())\n"
        f"teardown(Path('{cloud.instance.state_dir}')); print('survived')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout == "survived\n", result.stderr
    assert cloud.leftovers() == []


def test_teardown_of_nothing_is_nothing(tmp_path: Path) -> None:
    teardown(tmp_path / "never-started")
    assert list(tmp_path.iterdir()) == []


def test_a_fabric_whose_name_was_deleted_is_made_again(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.stop(signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", cloud.instance.fabric], check=True)
    cloud.start()
    cloud.client.power_off(machine.id)
    cloud.client.power_on(machine.id)
    eventually(lambda: cloud.run(machine, "echo alive") == "alive\n", "it is reached through the new fabric")
    assert "o-hm0" in within(cloud.instance.fabric, lambda: "".join(sorted(cloud.interfaces())))
