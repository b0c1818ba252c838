"""A sandbox sees and uses what is its own, and nothing of the machine or of another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cloud import LocalCloud, eventually

from tavia.cloud.protocols import ServerStatus


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LocalCloud]:
    """A cloud whose servers have little memory and few processes."""
    cloud = LocalCloud(tmp_path / "state", "--memory", "64", "--processes", "40")
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.remove()


def test_private_files_of_the_controller_and_of_other_servers_are_invisible(cloud: LocalCloud) -> None:
    secret = cloud.instance.state_dir / "ca-key.pem"
    secret.write_text("secret")
    other = cloud.boot(files={"/etc/octavia/certs/server.pem": b"of another"})
    machine = cloud.boot()
    places = [secret, cloud.instance.directory, cloud.instance.socket, Path("/etc/shadow"), Path("/etc/ssl/private")]
    places += cloud.instance.server_directory(other.id).rglob("server.pem")
    for place in places:
        assert place.exists(), place
        assert "No such file" in cloud.run(machine, f"ls {place}"), place
    assert "server.pem" not in cloud.run(machine, "find / -xdev -name server.pem 2>/dev/null; ls -R /etc/octavia")


def test_the_rest_of_the_file_system_is_read_only(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness"):
        assert "Read-only file system" in cloud.run(machine, f"echo 1 > {path}"), path
    for path in ("/run/x", "/tmp/x", "/var/lib/tavia/x", "/etc/octavia/x", "/proc/sys/net/ipv4/ip_nonlocal_bind"):
        assert cloud.run(machine, f"echo 1 > {path}") == "", path


def test_it_sees_only_its_own_processes_and_interfaces(cloud: LocalCloud) -> None:
    cloud.boot(name="amphora-other")
    machine = cloud.boot()
    assert cloud.run(machine, "ls /sys/class/net").split() == ["eth1", "lo"]
    assert cloud.run(machine, "ps -o pid= -p 1").strip() == "1"
    assert int(cloud.run(machine, "ps -e -o pid= | wc -l")) < 10


def test_it_cannot_mount_trace_or_load(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    assert "permission denied" in cloud.run(machine, "mount -o remount,rw / 2>&1").lower()
    held = int(cloud.run(machine, "grep CapEff /proc/self/status").split()[1], 16)
    bounding = int(cloud.run(machine, "grep CapBnd /proc/self/status").split()[1], 16)
    forbidden = {
        "DAC_READ_SEARCH": 2,
        "SYS_MODULE": 16,
        "SYS_RAWIO": 17,
        "SYS_PTRACE": 19,
        "SYS_ADMIN": 21,
        "MKNOD": 27,
    }
    assert [name for name, bit in forbidden.items() if (held | bounding) >> bit & 1] == []


def test_haproxy_and_keepalived_can_run(cloud: LocalCloud) -> None:
    machine = cloud.boot()
    config = (
        "global\\n user haproxy\\n chroot /var/lib/tavia\\nfrontend f\\n mode http\\n timeout client 1s\\n bind :80\\n"
    )
    cloud.run(machine, f"printf '{config}' > /run/h.cfg")
    started = cloud.run(machine, "haproxy -D -p /run/h.pid -f /run/h.cfg 2>&1; ps -o user= -p $(cat /run/h.pid)")
    assert started.strip().splitlines()[-1] == "haproxy", started
    assert "Keepalived v2" in cloud.run(machine, "keepalived --version 2>&1")


def test_running_out_of_memory_hurts_inside_only(small: LocalCloud) -> None:
    neighbour, machine = small.boot(name="neighbour"), small.boot(name="hungry")
    said = small.run(machine, "python3 -c \"x = bytearray(200 << 20); print('survived')\"; echo ended $?")
    assert "ended 137" in said
    assert "survived" not in said
    assert small.run(neighbour, "echo fine") == "fine\n"
    eventually(lambda: small.run(machine, "echo fine") == "fine\n", "the hungry one serves on")
    assert small.status(machine) == ServerStatus.ACTIVE


def test_a_fork_bomb_stays_inside(small: LocalCloud) -> None:
    neighbour, machine = small.boot(name="neighbour"), small.boot(name="bomb")
    said = small.run(machine, "for i in $(seq 100); do sleep 20 > /dev/null 2>&1 & done; echo done")
    assert "fork" in said.lower()
    assert small.run(neighbour, "echo fine") == "fine\n"
