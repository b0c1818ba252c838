"""A network of namespaces in which rendered configurations serve: client, members, amphorae, all on one bridge.

Addresses: amphorae 10.20.0.5 and .6, VIP .9, clients .50 to .59, members from .101; the same in 2001:db8::/64.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tavia.amphora.bundle import Bundle

COUNTER = itertools.count()
MEMBER = Path(__file__).with_name("echo_member.py")
CLIENTS = [f"10.20.0.{host}" for host in range(50, 60)]


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for a condition to become true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return value


def nodad(address: str) -> str:
    """IPv6 addresses are used at once."""
    return " nodad" if ":" in address else ""


class Lab:
    """Namespaces and processes of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"render{os.getpid()}-{next(COUNTER)}"
        self.namespaces: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.hub = self.namespace("hub")
        self.ip(self.hub, "link add br0 type bridge", "link set br0 up")

    def namespace(self, name: str) -> str:
        full = f"{self.prefix}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self.namespaces.append(full)
        self.ip(full, "link set lo up")
        return full

    def ip(self, namespace: str, *commands: str) -> None:
        batch = "\n".join(commands) + "\n"
        subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=batch.encode(), check=True)

    def host(self, name: str, *addresses: str) -> str:
        """A namespace with eth1 on the bridge."""
        full = self.namespace(name)
        self.ip(
            self.hub,
            f"link add {name} type veth peer name eth1 netns {full}",
            f"link set {name} master br0 up",
        )
        self.ip(full, *(f"addr add {address} dev eth1{nodad(address)}" for address in addresses), "link set eth1 up")
        return full

    def run(self, namespace: str, *command: str | Path) -> subprocess.Popen[bytes]:
        log = (self.directory / f"{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *map(str, command)], stdout=log, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for namespace in self.namespaces:
            found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for pid in found.stdout.split():
                os.kill(int(pid), 9)
            subprocess.run(["ip", "netns", "del", namespace], check=False)


class AmphoraHost:
    """Where a bundle runs: what the agent does, without an agent."""

    def __init__(self, lab: Lab, bundle: Bundle) -> None:
        self.lab = lab
        self.files = lab.directory / bundle.amphora_id
        self.files.mkdir()
        self.files.chmod(0o755)
        (interface,) = bundle.interfaces
        self.namespace = lab.host(bundle.amphora_id, *interface.addresses, *interface.vips)
        for family in ("ipv4", "ipv6"):
            setting = f"net.{family}.ip_nonlocal_bind=1"
            subprocess.run(["ip", "netns", "exec", self.namespace, "sysctl", "-qw", setting], check=True)
        for name, text in bundle.files.items():
            (self.files / name).write_text(text.replace("/run/tavia", str(self.files)))
        (self.files / "server-state").touch()
        self.haproxy = lab.run(self.namespace, "haproxy", "-W", "-f", self.files / "haproxy.cfg")
        until(lambda: self.ask("show info"))
        if "keepalived.conf" in bundle.files:
            self.keepalived = lab.run(
                self.namespace,
                *("keepalived", "-n", "-l", "-P", "-f", self.files / "keepalived.conf"),
                *("-p", self.files / "keepalived.pid", "-r", self.files / "vrrp.pid"),
            )

    def ask(self, command: str) -> str:
        """HAProxy's answer on its stats socket, empty while it does not listen."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self.files / "haproxy.sock"))
            except OSError:
                return ""
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def has(self, address: str) -> bool:
        shown = subprocess.run(["ip", "-n", self.namespace, "-br", "addr"], capture_output=True, text=True, check=True)
        return f"{address}/" in shown.stdout


class World:
    """What a test does: members, amphorae, requests."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.members = lab.host("members")
        self.client = lab.host("client", *(f"{ip}/24" for ip in CLIENTS), "2001:db8::50/64")

    def member(self, name: str, host: int, port: int = 8080, cookie: str = "sid") -> Path:
        """Start a member at 10.20.0.HOST and 2001:db8::HOST; creating the returned file makes it answer 503."""
        self.lab.ip(
            self.members,
            f"addr replace 10.20.0.{host}/24 dev eth1",
            f"addr replace 2001:db8::{host}/64 dev eth1 nodad",
        )
        for address in (f"10.20.0.{host}", f"2001:db8::{host}"):
            self.lab.run(self.members, sys.executable, MEMBER, name, self.lab.directory, address, str(port), cookie)
        listening = ["ip", "netns", "exec", self.members, "ss", "-Hltn"]
        until(
            lambda: subprocess.run(listening, capture_output=True, check=True).stdout.count(f":{host}]:{port}".encode())
        )
        return self.lab.directory / f"{name}.down"

    def checked_with(self, name: str) -> str:
        """The last request that a member got."""
        path = self.lab.directory / f"{name}.last"
        return str(until(lambda: path.exists() and path.read_bytes()).decode("latin-1"))

    def amphora(self, bundle: Bundle) -> AmphoraHost:
        return AmphoraHost(self.lab, bundle)

    def get(self, *options: str, url: str = "http://10.20.0.9/") -> dict[str, Any]:
        """What the member that answered saw. Without an answer: ``{"failed": HTTP status or 0}``."""
        command = ["ip", "netns", "exec", self.client, "curl", "-sg", "-m", "2", "-w", "\n%{http_code}", *options, url]
        body, _, status = subprocess.run(command, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        answer: dict[str, Any] = json.loads(body) if status == "200" else {"failed": int(status)}
        return answer

    def served_by(self, count: int, *options: str) -> list[str]:
        """Who answered so many requests."""
        return [self.get(*options).get("member", "nobody") for _ in range(count)]
