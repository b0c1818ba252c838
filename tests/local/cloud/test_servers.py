"""A server of the local cloud lives and dies like one of Nova's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from local_cloud import DEADLINE, LocalCloud, ask, eventually, within

from tavia.cloud.local import rules
from tavia.cloud.protocols import NotFound, ServerSpec, ServerStatus
from tavia.model.seams import SeamError


def taps(cloud: LocalCloud) -> set[str]:
    return {name for name in cloud.interfaces() if name.startswith("tap")}


def test_a_booted_server_is_active_and_reached_over_the_management_network(cloud: LocalCloud) -> None:
    machine = cloud.boot(name="amphora-7")
    server = cloud.server(machine)
    assert (server.status, server.name, server.fault) == (ServerStatus.ACTIVE, "amphora-7", None)
    assert cloud.run(machine, "hostname").strip() == "amphora-7"


def test_the_first_port_is_configured_and_the_others_carry_their_mac_only(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    neighbour = ["ip", "-n", cloud.instance.fabric, "neigh", "show", machine.address(0)]
    shown = subprocess.run(neighbour, capture_output=True, text=True, check=True).stdout
    assert f"dev o-hm0 lladdr {machine.ports[0].mac_address}" in shown
    other = cloud.run(machine, "ip -o link show eth1; ip -o -4 addr show eth1")
    assert machine.ports[1].mac_address in other
    assert machine.address(1) not in other


def test_files_of_the_config_drive_are_there_for_root_only(cloud: LocalCloud) -> None:
    machine = cloud.boot(files={"/etc/octavia/certs/server.pem": b"secret\n"})
    assert cloud.run(machine, "cat /etc/octavia/certs/server.pem") == "secret\n"
    on_disk = list(cloud.instance.server_directory(machine.id).rglob("server.pem"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in on_disk] == [0o600]


def test_a_file_outside_the_config_drive_is_refused_and_nothing_is_made(cloud: LocalCloud) -> None:
    with pytest.raises(SeamError) as refused:
        cloud.boot_only(files={"/etc/octavia/../../etc/passwd": b""})
    assert refused.value.code == "file-outside"
    assert cloud.client.servers() == []


def test_servers_are_found_by_tags_oldest_first(cloud: LocalCloud) -> None:
    first, second = cloud.boot_only(name="one"), cloud.boot_only(name="two")
    assert [server.id for server in cloud.client.servers(frozenset({"test"}))] == [first.id, second.id]
    assert [server.id for server in cloud.client.servers(frozenset({"test", "two"}))] == [second.id]


def test_servers_booted_at_once_all_come_up_with_addresses_of_their_own(cloud: LocalCloud) -> None:
    with ThreadPoolExecutor(6) as pool:
        machines = list(pool.map(lambda number: cloud.boot(name=f"amphora-{number}"), range(6)))
    assert len({machine.address(0) for machine in machines}) == 6
    assert [cloud.run(machine, "hostname") for machine in machines] == [f"amphora-{n}\n" for n in range(6)]


def test_a_port_of_another_server_is_refused(cloud: LocalCloud) -> None:
    machine = cloud.boot_only()
    with pytest.raises(SeamError) as refused:
        cloud.boot_only(*machine.ports)
    assert (refused.value.code, refused.value.permanent) == ("port-in-use", True)
    assert len(cloud.client.servers()) == 1


def test_a_port_that_does_not_exist_is_named(cloud: LocalCloud) -> None:
    with pytest.raises(NotFound, match="port no-such-port"):
        cloud.client.boot(
            ServerSpec(
                name="n", image_id=None, flavor=None, port_ids=["no-such-port"], files={}, tags=frozenset({"test"})
            )
        )
    assert cloud.client.servers() == []


def test_its_agent_is_started_again_when_it_dies(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    agent = cloud.run(machine, "cat /var/lib/tavia/starts").split()
    cloud.run(machine, f"kill -9 {agent[0]}")
    eventually(lambda: cloud.run(machine, "cat /var/lib/tavia/starts").count("\n") == 2, "a second start")
    assert cloud.status(machine) == ServerStatus.ACTIVE


def test_init_reaps_what_is_left_to_it(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.run(machine, "(sleep 0.05 & ) ; true")
    eventually(lambda: cloud.run(machine, "ps -o stat,args ax | grep -c '[s]leep'").strip() == "0", "no sleep is left")


def test_killing_pid_1_is_a_power_cut(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    os.kill(cloud.pid(machine), signal.SIGKILL)
    eventually(lambda: cloud.status(machine) == ServerStatus.OFF, "OFF")
    mine = {rules.interface(port.id) for port in machine.ports}
    eventually(lambda: not mine & cloud.interfaces(), "its interfaces are gone")


def test_sigterm_to_pid_1_ends_it_in_order(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    os.kill(cloud.pid(machine), signal.SIGTERM)
    eventually(lambda: cloud.status(machine) == ServerStatus.OFF, "OFF")


def test_power_off_leaves_nothing_running_and_power_on_finds_the_disk(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.run(machine, "echo kept > /var/lib/tavia/state; echo lost > /run/state; sleep 600 > /dev/null 2>&1 &")
    before = taps(cloud)
    cloud.client.power_off(machine.id)
    assert cloud.status(machine) == ServerStatus.OFF
    assert taps(cloud) == before - {rules.interface(port.id) for port in machine.ports}
    cloud.client.power_off(machine.id)

    cloud.client.power_on(machine.id)
    eventually(lambda: cloud.run(machine, "cat /var/lib/tavia/state") == "kept\n", "it serves again")
    assert "No such file" in cloud.run(machine, "cat /run/state")
    assert "sleep" not in cloud.run(machine, "ps ax").replace("grep", "")


def test_power_on_at_the_very_moment_of_a_power_cut_starts_it(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.run(machine, "for i in $(seq 50); do sleep 60 > /dev/null 2>&1 & done")
    os.kill(cloud.pid(machine), signal.SIGKILL)
    cloud.client.power_on(machine.id)
    eventually(lambda: cloud.run(machine, "echo alive") == "alive\n", "it serves again")


def test_power_on_of_a_running_server_changes_nothing(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    before = cloud.pid(machine)
    cloud.client.power_on(machine.id)
    assert cloud.pid(machine) == before


def test_a_deleted_server_is_gone_and_its_ports_are_free(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    cloud.client.delete(machine.id)
    cloud.client.delete(machine.id)
    assert cloud.client.server(machine.id) is None
    assert not cloud.instance.server_directory(machine.id).exists()
    assert [cloud.client.port(port.id).device_id for port in machine.ports] == ["", ""]
    with pytest.raises(NotFound):
        cloud.client.power_on(machine.id)
    cloud.boot(*machine.ports)


def test_a_port_is_plugged_into_a_running_server_and_is_there_after_a_power_cut(cloud: LocalCloud) -> None:
    machine, port = cloud.boot(), cloud.port("demo-net")
    for _ in range(2):
        cloud.client.attach_port(machine.id, port.id)
    assert cloud.run(machine, "ip -o link").count(port.mac_address) == 1
    assert cloud.client.port(port.id).device_id == machine.id
    cloud.client.power_off(machine.id)
    cloud.client.power_on(machine.id)
    eventually(lambda: port.mac_address in cloud.run(machine, "ip -o link"), "it is plugged again")


def test_a_plugged_port_carries_traffic_and_the_agent_is_not_there(cloud: LocalCloud) -> None:
    machine, port = cloud.boot(), cloud.port("demo-net")
    host = cloud.client.attach_host("neighbour", cloud.network_id("demo-net"))
    cloud.client.attach_port(machine.id, port.id)
    address = port.fixed_ips[0].ip_address
    name = rules.interface(port.id)
    cloud.run(machine, f"ip addr add {address}/24 dev {name}; ip link set {name} up")
    ping = ["ping", "-c", "1", "-W", "1", address]
    asked = lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0  # noqa: E731
    eventually(lambda: within(host, asked), "the neighbour reaches it")
    with pytest.raises(ConnectionRefusedError):
        within(host, lambda: ask(address, "echo plugged"))


def test_an_unplugged_port_is_gone_from_the_server_and_free(cloud: LocalCloud) -> None:
    machine, port = cloud.boot(), cloud.port("demo-net")
    cloud.client.attach_port(machine.id, port.id)
    for _ in range(2):
        cloud.client.detach_port(machine.id, port.id)
    assert port.mac_address not in cloud.run(machine, "ip -o link")
    assert cloud.client.port(port.id).device_id == ""
    cloud.boot(cloud.port("lb-mgmt-net"), port)
    cloud.client.detach_port(machine.id, port.id)
    assert rules.interface(port.id) in cloud.interfaces()


def test_a_port_is_plugged_once_a_server_that_was_off_runs(cloud: LocalCloud) -> None:
    machine, port = cloud.boot(), cloud.port("demo-net")
    cloud.client.power_off(machine.id)
    cloud.client.attach_port(machine.id, port.id)
    cloud.client.power_on(machine.id)
    eventually(lambda: port.mac_address in cloud.run(machine, "ip -o link"), "it is plugged")


def test_a_port_of_another_server_or_of_none_is_not_plugged(cloud: LocalCloud) -> None:
    machine, other = cloud.boot(), cloud.boot(name="amphora-2")
    with pytest.raises(SeamError, match="port-in-use"):
        cloud.client.attach_port(machine.id, other.ports[1].id)
    for server_id, port_id in ((machine.id, "no-such-port"), ("no-such-server", machine.ports[1].id)):
        with pytest.raises(NotFound, match="no-such"):
            cloud.client.attach_port(server_id, port_id)
    cloud.client.detach_port("no-such-server", machine.ports[1].id)
    assert len(cloud.run(machine, "ip -o link").splitlines()) == 2


def test_a_server_that_cannot_come_up_shows_error_and_says_why(cloud: LocalCloud) -> None:
    machine = cloud.boot_only()
    cloud.client.power_off(machine.id)
    disk = cloud.instance.server_directory(machine.id) / "disk"
    disk.rename(disk.with_name("stolen"))
    cloud.client.power_on(machine.id)
    server = cloud.server(machine)
    assert server.status == ServerStatus.ERROR
    assert server.fault is not None
    assert "/var/lib/tavia" in server.fault or "/etc/octavia" in server.fault
    disk.with_name("stolen").rename(disk)
    cloud.client.power_on(machine.id)
    assert cloud.status(machine) == ServerStatus.ACTIVE


def test_an_agent_that_keeps_failing_is_retried_ever_more_slowly(cloud: LocalCloud) -> None:
    machine = cloud.boot_only(files={"/etc/octavia/die": b""})
    console = cloud.instance.server_directory(machine.id) / "console.log"
    eventually(lambda: "again in 0.4 s" in console.read_text(), f"three failures within {DEADLINE} s")
    assert cloud.status(machine) == ServerStatus.ACTIVE
