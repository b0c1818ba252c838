"""A local cloud of a test's own, on the real kernel: its daemon, what is asked of it, and what is left at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sandbox_shell

from tavia.cloud.local import cgroups, linux, teardown
from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.instance import NETNS_DIR, Instance
from tavia.cloud.protocols import Port, PortSpec, Server, ServerSpec, ServerStatus
from tavia.model.seams import SeamError

DEADLINE = 15.0
"""Seconds after which something awaited is a failure."""
T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str) -> T:
    """What the condition returns once it is true; it may raise OSError or SeamError until then."""
    deadline = time.monotonic() + DEADLINE
    last: object = None
    while time.monotonic() < deadline:
        with suppress(OSError, SeamError):
            if last := condition():
                return last
        time.sleep(0.01)
    raise AssertionError(f"not within {DEADLINE} s: {what} (last seen: {last!r})")


def within(namespace: str, action: Callable[[], T]) -> T:
    """Run something in a named network namespace: a thread moves there and ends."""
    results: list[T | Exception] = []

    def work() -> None:
        try:
            linux.enter_network(NETNS_DIR / namespace)
            results.append(action())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def ask(address: str, text: str) -> str:
    """Send a line to a sandbox's shell; what it answers."""
    with socket.create_connection((address, sandbox_shell.PORT), 3.0) as connection:
        connection.settimeout(DEADLINE)
        connection.sendall(f"{text}\n".encode())
        return connection.makefile().read()


@dataclass(frozen=True)
class Machine:
    """A server, and its ports in the order of its interfaces."""

    id: str
    ports: list[Port]

    def address(self, interface: int) -> str:
        return self.ports[interface].fixed_ips[0].ip_address


class LocalCloud:
    """One instance. Its daemon's servers run :mod:`sandbox_shell` instead of the agent."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.instance = Instance.of(state_dir)
        self.client = LocalClient(self.instance.socket)
        self.options = options
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        command = [sys.executable, "-m", "tavia.cloud.local.service", "--state-dir", str(self.instance.state_dir)]
        known = (str(Path(sandbox_shell.__file__).parent), os.environ.get("PYTHONPATH"))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))}
        self.daemon = subprocess.Popen([*command, "--agent", "sandbox_shell:run", *self.options], env=environment)
        eventually(self.client.networks, "the daemon answers")

    def stop(self, number: signal.Signals) -> int:
        """Send the daemon a signal and wait for its end; returns its exit code."""
        assert self.daemon
        self.daemon.send_signal(number)
        return self.daemon.wait(DEADLINE)

    def restart(self) -> None:
        """As after a crash: SIGKILL and a new daemon."""
        self.stop(signal.SIGKILL)
        self.start()

    def remove(self) -> None:
        """Teardown, whatever state the daemon is in; afterwards nothing is left."""
        teardown(self.instance.state_dir)
        if self.daemon:
            self.daemon.wait(DEADLINE)
        assert self.leftovers() == []

    def leftovers(self) -> list[str]:
        """What of the instance exists: namespaces, cgroups, processes, mounts, files."""
        marks = (self.instance.fabric, str(self.instance.directory))
        found = [f"namespace {name}" for name in self.instance.namespaces]
        found += [
            f"cgroup {path}"
            for hierarchy in cgroups.hierarchies()
            for path in hierarchy.root.glob(f"{self.instance.fabric}*")
        ]
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (path / "cmdline").read_text().replace("\0", " ")
                if str(self.instance.state_dir) in line and path.name != str(os.getpid()):
                    found.append(f"process {path.name} {line}")
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if any(mark in line for mark in marks)]
        found += [str(path) for path in (self.instance.directory, self.instance.socket) if path.exists()]
        return found

    # -- shorthands ---------------------------------------------------------------------------------------------

    def network_id(self, name: str) -> str:
        return next(network.id for network in self.client.networks() if network.name == name)

    def port(self, network: str, *, address: str | None = None, allowed: frozenset[str] = frozenset()) -> Port:
        network_id = self.network_id(network)
        subnet_id = self.client.network(network_id).subnet_ids[0]
        return self.client.create_port(
            PortSpec(
                name=f"of {network}",
                network_id=network_id,
                fixed_ips=[(subnet_id, address)],
                tags=frozenset({"test"}),
                allowed_addresses=allowed,
            )
        )

    def boot(self, *ports: Port, name: str = "amphora-1", files: Mapping[str, bytes] | None = None) -> Machine:
        """A server with these ports, or with one in lb-mgmt-net and one in demo-net; its shell answers."""
        machine = self.boot_only(*ports, name=name, files=files)
        eventually(lambda: self.run(machine, "echo ready") == "ready\n", "the server's shell answers")
        return machine

    def boot_only(self, *ports: Port, name: str = "amphora-1", files: Mapping[str, bytes] | None = None) -> Machine:
        """The same without waiting for the shell."""
        chosen = list(ports) or [self.port("lb-mgmt-net"), self.port("demo-net")]
        spec = ServerSpec(
            name=name,
            image_id=None,
            flavor=None,
            port_ids=[port.id for port in chosen],
            files=files or {"/etc/octavia/amphora-agent.conf": b"[agent]\n"},
            tags=frozenset({"test", name}),
        )
        return Machine(self.client.boot(spec), chosen)

    def run(self, machine: Machine, command: str) -> str:
        """Run a command inside the server, asked through lb-mgmt-net from the controller's leg."""
        return within(self.instance.fabric, lambda: ask(machine.address(0), command))

    def server(self, machine: Machine) -> Server:
        server = self.client.server(machine.id)
        assert server is not None
        return server

    def status(self, machine: Machine) -> ServerStatus:
        return self.server(machine).status

    def pid(self, machine: Machine) -> int:
        """The server's PID 1 as the host sees it: the first one in its cgroup."""
        return min(cgroups.pids(f"{self.instance.fabric}/{machine.id}"))

    def interfaces(self) -> set[str]:
        """The interfaces of the fabric."""
        return within(self.instance.fabric, lambda: {name for _, name in socket.if_nameindex()})
