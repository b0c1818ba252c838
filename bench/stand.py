"""What the rows measure: an instance of Tavia of its own, a client, backends, and load balancers asked for by the API.

Everything it makes belongs to the instance (its cgroup, its namespaces, its state directory), so ``tavia down``
removes it whatever happened.
"""

from __future__ import annotations

import configparser
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavia.cli import report
from tavia.cli.api_client import ApiClient, Json
from tavia.cli.embedded import Embedded
from tavia.cli.progress import wait_until
from tavia.cloud.local import cgroups
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.protocols import Network

TAVIA = str(Path(sys.executable).parent / "tavia")
CIDR, VIPS = "10.209.0.0/22", "10.209.2.{}"
CLIENT, HAND = "10.209.3.1", "10.209.3.2"
BACKENDS = ("10.209.3.11", "10.209.3.12")
MEMBER_PORTS = range(8000, 8400)
"""Each answers with its own number."""
VIP_PORT = 80
SERVING_TIMEOUT = 60.0

BACKEND_CONFIG = f"""\
global
    nbthread 1
defaults
    mode http
    timeout client 1h
    timeout http-keep-alive 1h
    timeout connect 5s
    timeout server 1h
frontend answers
    bind :{MEMBER_PORTS.start}-{MEMBER_PORTS.stop - 1}
    http-request return status 200 content-type text/plain lf-string "%[dst_port]"
"""
"""HAProxy answers by itself faster than most servers, and is here already."""


@dataclass(frozen=True, slots=True)
class Balancer:
    """A load balancer with one listener, one pool and, at first, one member: the first port of the first backend."""

    id: str
    pool_id: str
    listener_id: str
    vip: str
    topology: str


@dataclass(frozen=True, slots=True)
class Amphora:
    """One of a load balancer's, with the processes that run in it. ``vrrp_state`` is what its last heartbeat said."""

    id: str
    vrrp_state: str | None
    pids: frozenset[int]

    def pids_of(self, program: str) -> frozenset[int]:
        """Its processes of this name, sorted out by /proc/PID/comm."""
        return frozenset(pid for pid in self.pids if _comm(pid) == program)


class Stand:
    """Make it with :func:`stand`."""

    def __init__(self, state_dir: Path) -> None:
        self._embedded = Embedded.of(state_dir)
        self._topology = ""
        self._vips = iter(range(1, 255))
        self._up()
        self.api = ApiClient(self._embedded.api_url)
        self._network: Network = self._embedded.cloud.create_network(name="bench-net", cidr=CIDR)
        for number, address in enumerate(BACKENDS):
            self.start(f"backend-{number}", address, self.haproxy(f"backend-{number}", BACKEND_CONFIG))
        self._host("client", CLIENT)

    def _up(self) -> None:
        _tavia("up", self._embedded.state_dir)

    def _host(self, name: str, address: str) -> str:
        return self._embedded.cloud.attach_host(name, self._network.id, address)

    # -- processes ------------------------------------------------------------------------------------------------

    def haproxy(self, name: str, config: str) -> Sequence[str]:
        """The command for an HAProxy with this configuration."""
        file = self._embedded.state_dir / f"{name}.cfg"
        file.write_text(config)
        return ("haproxy", "-db", "-f", str(file))

    def start(self, name: str, address: str, command: Sequence[str]) -> None:
        """Run a command on a host of its own, which weighs as much on the processor as an amphora."""
        enter = ("nsenter", f"--net={NETNS_DIR / self._host(name, address)}")
        with (self._embedded.log_dir / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*enter, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        cgroups.join(f"{self._embedded.instance.fabric}/{name}", process.pid)

    def client(self, *command: str) -> subprocess.Popen[str]:
        """A command where the clients are, with pipes. Whoever starts it ends it."""
        enter = ("nsenter", f"--net={NETNS_DIR / self._host('client', CLIENT)}")
        return subprocess.Popen([*enter, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @contextmanager
    def asking(self, what: str, vip: str, *more: str) -> Iterator[subprocess.Popen[str]]:
        """One of :mod:`bench.clients`, asking already; its next line is what it found."""
        script = str(Path(__file__).with_name("clients.py"))
        process = self.client(sys.executable, "-I", script, what, vip, str(VIP_PORT), *more)
        with ended(process):
            if _line(process) != "ready\n":
                raise RuntimeError(f"the client {what} did not start")
            yield process

    # -- configuration --------------------------------------------------------------------------------------------

    def configure(self, group: str, option: str, value: str) -> None:
        """Set an option in octavia.conf; the services start again when it was something else."""
        file = self._embedded.config_file
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(file)
        if parser.get(group, option, fallback=None) == value:
            return
        parser.set(group, option, value)
        with file.open("w") as config:
            parser.write(config)
        supervisor = report.read_process(self._embedded.supervisor_file)
        if supervisor:
            os.kill(supervisor.pid, signal.SIGTERM)
            _must(lambda: not supervisor.alive, "the services end")
        self._up()

    # -- load balancers -------------------------------------------------------------------------------------------

    def free_vip(self) -> str:
        """An address that no load balancer had before."""
        return VIPS.format(next(self._vips))

    def choose(self, topology: str) -> None:
        """SINGLE or ACTIVE_STANDBY, of the load balancers made from now on."""
        self.configure("controller_worker", "loadbalancer_topology", topology)
        self._topology = topology

    def create(self, vip: str) -> Balancer:
        """One POST makes the whole tree; returns when the API has accepted it."""
        pool = {
            "name": "web",
            "protocol": "HTTP",
            "lb_algorithm": "ROUND_ROBIN",
            "members": [self.member(MEMBER_PORTS[0])],
        }
        listener = {"name": "http", "protocol": "HTTP", "protocol_port": VIP_PORT, "default_pool": pool}
        wanted = {"vip_address": vip, "vip_subnet_id": self._network.subnet_ids[0], "listeners": [listener]}
        made = self.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": wanted})["loadbalancer"]
        return Balancer(made["id"], made["pools"][0]["id"], made["listeners"][0]["id"], vip, self._topology)

    @contextmanager
    def balancer(self, topology: str) -> Iterator[Balancer]:
        """One that serves; it is deleted at the end."""
        self.choose(topology)
        balancer = self.create(self.free_vip())
        with self.asking("first", balancer.vip, "") as asker:
            found(asker)
        self.await_whole(balancer)
        yield balancer
        self.delete(balancer)

    def member(self, port: int, backend: str = BACKENDS[0]) -> Json:
        """The body of a member."""
        return {"address": backend, "protocol_port": port}

    def delete(self, balancer: Balancer) -> None:
        """Returns when it is gone, with all below it."""
        path = f"/lbaas/loadbalancers/{balancer.id}"
        self.api.call("DELETE", f"{path}?cascade=true")
        listed = f"/lbaas/loadbalancers?id={balancer.id}"
        _must(lambda: not self.api.call("GET", listed)["loadbalancers"], f"load balancer {balancer.id} is deleted")

    def await_active(self, balancer: Balancer) -> None:
        """Return when all that was asked for is applied."""
        path = f"/lbaas/loadbalancers/{balancer.id}"
        _must(
            lambda: self.api.call("GET", path)["loadbalancer"]["provisioning_status"] == "ACTIVE",
            f"load balancer {balancer.id} is ACTIVE",
        )

    def await_whole(self, balancer: Balancer) -> None:
        """Return when it is ACTIVE and its amphorae are all heard of: of a pair one MASTER, one BACKUP."""
        wanted = {"SINGLE": [None], "ACTIVE_STANDBY": ["BACKUP", "MASTER"]}[balancer.topology]
        _must(lambda: self._vrrp_states(balancer) == wanted, f"load balancer {balancer.id} becomes whole")
        self.await_active(balancer)

    def await_successor(self, balancer: Balancer, of: Amphora) -> None:
        """Return when another amphora says that it is the MASTER."""
        _must(
            lambda: any(a.vrrp_state == "MASTER" and a.id != of.id for a in self.amphorae(balancer)),
            f"another amphora than {of.id} becomes MASTER",
        )

    def _vrrp_states(self, balancer: Balancer) -> list[str | None]:
        """Of all its amphorae that have not been removed, as last heard; None also of one without HAProxy."""
        rows = self._select(
            "SELECT CASE WHEN haproxy_up THEN vrrp_state END FROM amphora LEFT JOIN amphora_health "
            "ON amphora_id = id WHERE loadbalancer_id = ? AND status != 'DELETED' ORDER BY vrrp_state",
            balancer.id,
        )
        return [row[0] for row in rows]

    def amphorae(self, balancer: Balancer) -> list[Amphora]:
        """All that carry traffic."""
        path = f"/octavia/amphorae?loadbalancer_id={balancer.id}&status=ALLOCATED"
        states = {row[0]: row[1] for row in self._select("SELECT amphora_id, vrrp_state FROM amphora_health")}
        group = self._embedded.instance.fabric
        return [
            Amphora(a["id"], states.get(a["id"]), frozenset(cgroups.pids(f"{group}/{a['compute_id']}")))
            for a in self.api.call("GET", path)["amphorae"]
        ]

    def pushes(self, balancer: Balancer) -> int:
        """How many bundles the workers have given to its amphorae, by the journal."""
        counted = self._select(
            "SELECT count(*) FROM step JOIN operation ON operation.id = step.operation_id "
            "WHERE step.what = 'push-bundle' AND operation.loadbalancer_id = ?",
            balancer.id,
        )
        return int(counted[0][0])

    def _select(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        url = f"file:{self._embedded.state_dir / 'tavia.sqlite'}?mode=ro"
        with closing(sqlite3.connect(url, uri=True, timeout=10.0)) as connection:
            return connection.execute(statement, values).fetchall()


@contextmanager
def stand() -> Iterator[Stand]:
    """An instance in a temporary directory, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tavia-bench-", ignore_cleanup_errors=True) as directory:
        state_dir = Path(directory) / "state"
        try:
            yield Stand(state_dir)
        finally:
            _tavia("down", state_dir)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """It has ended when the block has."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def found(process: subprocess.Popen[str]) -> float:
    """The time that a client tells."""
    return float(_line(process))


def _line(process: subprocess.Popen[str]) -> str:
    timer = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(round(SERVING_TIMEOUT))
    try:
        return process.stdout.readline() if process.stdout else ""
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, timer)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"not served within {SERVING_TIMEOUT:.0f} s")


def _must(condition: Callable[[], bool], what: str) -> None:
    if not wait_until(condition, SERVING_TIMEOUT):
        raise TimeoutError(f"not within {SERVING_TIMEOUT:.0f} s: {what}")


def _tavia(word: str, state_dir: Path) -> None:
    done = subprocess.run([TAVIA, word, "--state-dir", str(state_dir)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tavia {word}: {done.stdout}{done.stderr}")


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
