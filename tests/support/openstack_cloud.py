"""The OpenStack below tests/cloud and bench/cloud: a real one, which it brings up where its script is.

By default the one of ``cloud-up.sh`` in ``../shared/cloud`` beside the checkout (``TAVIA_TEST_CLOUD_SCRIPTS``: another
folder) with its state in ``/var/tmp/tavia-cloud`` (``TAVIA_TEST_CLOUD``). With ``OS_CLOUD`` any other: clouds.yaml has
the administrator as ``$OS_CLOUD``, the service user as ``$OS_CLOUD-octavia`` and a tenant as ``$OS_CLOUD-demo``, and
things have the names below. All is found by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from instance import eventually
from openstack.config import OpenStackConfig
from openstack.connection import Connection

CHECKOUT = Path(__file__).parents[2]
DEFAULT_DIRECTORY = Path("/var/tmp/tavia-cloud")
UP_SECONDS = 1800.0
MGMT_NETWORK, TENANT_NETWORK, PUBLIC_NETWORK = "lb-mgmt-net", "cl-tenant", "public"
MGMT_GROUP = "lb-mgmt-sec-grp"
LEG_PORT = "octavia-health-manager-port"
NOVA_COMPUTE = "nova-compute --config-file /etc/nova/nova-cpu.conf"
"""How the test cloud starts it on each host."""
TINY_IMAGE, TINY_FLAVOR, AMPHORA_FLAVOR = "cl-tiny", "cl.tiny", "cl.small"


class NoCloud(Exception):
    """There is none to test on; says why."""


@dataclass(frozen=True)
class OpenStackCloud:
    """Make it with :func:`find_cloud`. ``directory``: of the test cloud's state, None for any other cloud."""

    clouds_file: Path
    name: str
    directory: Path | None
    _connections: dict[str, Connection] = field(default_factory=dict)

    def cloud(self, who: str = "") -> str:
        """The name in clouds.yaml: of the administrator, or who is ``octavia`` or ``demo``."""
        return f"{self.name}-{who}" if who else self.name

    def settings(self, who: str = "") -> dict[str, Any]:
        """What clouds.yaml says of it."""
        found: dict[str, Any] = yaml.safe_load(self.clouds_file.read_text())["clouds"][self.cloud(who)]
        return found

    def connect(self, who: str = "") -> Any:
        """openstacksdk's Connection, logged in; always the same one. Its types know of versions that nobody runs."""
        if who not in self._connections:
            config = OpenStackConfig(config_files=[str(self.clouds_file)], load_envvars=False)
            # Keystone under uwsgi closes connections when it likes, also as a request is on its way.
            self._connections[who] = Connection(config=config.get_one(self.cloud(who), connect_retries=6))
        return self._connections[who]

    @property
    def admin(self) -> Any:
        return self.connect()

    @cached_property
    def management_network(self) -> str:
        return str(self.admin.network.find_network(MGMT_NETWORK, ignore_missing=False).id)

    @cached_property
    def tenant_subnet(self) -> Any:
        network = self.admin.network.find_network(TENANT_NETWORK, ignore_missing=False)
        return self.admin.network.get_subnet(network.subnet_ids[0])

    @cached_property
    def management_group(self) -> str:
        admins = self.admin.current_project_id
        (group,) = self.admin.network.security_groups(name=MGMT_GROUP, project_id=admins)
        return str(group.id)

    @cached_property
    def leg_address(self) -> str:
        """The controllers' own address on the management network."""
        port = self.admin.network.find_port(LEG_PORT, ignore_missing=False)
        return str(port.fixed_ips[0]["ip_address"])

    @cached_property
    def leg(self) -> str:
        """The interface of this machine that has it."""
        (found,) = (entry for entry in json.loads(_ip("-j", "address", "show", "to", self.leg_address)) if entry)
        return str(found["ifname"])

    @contextmanager
    def image(self, name: str, tag: str, min_ram: int = 0) -> Iterator[str]:
        """One with the tag that wants so many MiB of memory, for the time of the block; it holds nothing but zeros."""
        made = self.admin.create_image(
            name, data=bytes(1 << 20), disk_format="raw", container_format="bare", min_ram=min_ram, tags=[tag]
        )
        try:
            yield made.id
        finally:
            self.admin.image.delete_image(made)

    @contextmanager
    def leg_down(self) -> Iterator[None]:
        """For the time of the block the controllers have no way to the management network.

        Not over this machine's default route either, where packets for it would get lost outside.
        """
        (entry,) = json.loads(_ip("-j", "-4", "route", "show", "dev", self.leg, "proto", "kernel"))
        nowhere = ("unreachable", entry["dst"], "metric", "4000")
        _ip("route", "replace", *nowhere)
        try:
            _ip("link", "set", self.leg, "down")
            yield
        finally:
            _ip("link", "set", self.leg, "up")
            _ip("route", "del", *nowhere)

    @contextmanager
    def stopped(self, service: str, command: str, *, node: str = "cl-node") -> Iterator[None]:
        """A service stopped for a while on a node of the cloud; ``command`` starts it again. Skips on other clouds."""
        if self.directory is None:
            pytest.skip("only the services of the test cloud may be stopped")
        suffix = "" if node == "cl-node" else node.removeprefix("cl")  # of its log
        inside = [str(self.directory / "cl-exec"), "-n", node, "env", f"CL_SUFFIX={suffix}"]
        try:
            subprocess.run([*inside, "svc", "stop", service], check=True)
            yield
        finally:
            subprocess.run([*inside, "svc", "start", service, *command.split()], check=True)

    @contextmanager
    def no_host_builds(self) -> Iterator[None]:
        """For the time of the block Nova hands servers to hosts that build none; afterwards all hosts are there again.

        After a minute it would know that they are silent.
        """
        silent = self._compute_hosts()
        with ExitStack() as stack:
            stack.callback(lambda: eventually(lambda: self._report_again(silent), "all hosts report again", 120))
            for host in list(silent):
                stack.enter_context(self.stopped("nova-compute", NOVA_COMPUTE, node=host))
            silent = self._compute_hosts()
            yield

    def _compute_hosts(self) -> dict[str, str]:
        """When each reported last."""
        return {found.host: str(found.updated_at) for found in self.admin.compute.services(binary="nova-compute")}

    def _report_again(self, silent: Mapping[str, str]) -> bool:
        return all(self._compute_hosts()[host] != reported for host, reported in silent.items())

    def flavor(self, name: str) -> str:
        return str(self.admin.compute.find_flavor(name, ignore_missing=False).id)

    @property
    def shows_processes(self) -> bool:
        """Whether servers are processes of this machine."""
        return self.directory is not None

    def processes_of(self, server_id: str) -> list[int]:
        """Of a server, on this machine: its qemu, which is there and paused before Nova waits for its ports."""
        return [pid for pid in _processes() if _is_server(pid, server_id)]

    def kill_server(self, server_id: str) -> None:
        """End a server behind Nova's back: its qemu, found by the server's id, is killed."""
        found = self.processes_of(server_id)
        assert len(found) == 1, f"server {server_id} has the processes {found}"
        os.kill(found[0], signal.SIGKILL)


def _ip(*words: str) -> bytes:
    return subprocess.run(["ip", *words], stdout=subprocess.PIPE, check=True).stdout


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _is_server(pid: int, server_id: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"qemu" in words[0] and b"-uuid" in words and server_id.encode() in words


def find_cloud() -> OpenStackCloud:
    """One that answers, brought up if need be. Raises NoCloud."""
    if name := os.environ.get("OS_CLOUD"):
        other = OpenStackCloud(Path(OpenStackConfig().config_filename or ""), name, None)
        try:
            other.admin.authorize()
        except Exception as error:
            raise NoCloud(f"OS_CLOUD={name}: {error}") from error
        return other
    directory = Path(os.environ.get("TAVIA_TEST_CLOUD", DEFAULT_DIRECTORY))
    bring_up(directory)
    return OpenStackCloud(directory / "clouds.yaml", "cl", directory)


def scripts() -> Path:
    """The folder that holds the test cloud's scripts, if it is there."""
    return Path(os.environ.get("TAVIA_TEST_CLOUD_SCRIPTS", CHECKOUT.parent / "shared" / "cloud"))


def bring_up(directory: Path) -> None:
    """Have the script start what is down of the cloud: seconds to six minutes. Raises NoCloud.

    Whether it is up is for the script to know: without it another machine may answer at its address, over a connection
    that outlives the one that is then made.
    """
    script = scripts() / "cloud-up.sh"
    if not script.exists():
        raise NoCloud(f"there is no {script}, and OS_CLOUD names no other cloud")
    environment = {**_clean(os.environ), "CL_DIR": str(directory)}
    done = subprocess.run(
        [str(script)], env=environment, capture_output=True, text=True, timeout=UP_SECONDS, check=False
    )
    if done.returncode:
        raise NoCloud(f"{script} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("OS_")}
