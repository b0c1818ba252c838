"""Real agents in namespaces of their own, with a client, members and a heartbeat receiver on the same bridges.

Data network: amphorae 10.20.0.5 and .6, VIP .9, client and members .101 onwards. Management: amphorae 10.30.0.5 and
.6, the controller .1. Sockets are made inside the ``world`` namespace and served by threads of the test.
"""

from __future__ import annotations

import ctypes
import dataclasses
import http.client
import http.server
import itertools
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import forked
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from trees import NETWORK, amphora, pair, tree

from tavia.agent.programs import PROGRAMS
from tavia.amphora.agent_config import render_agent_config
from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import AgentClient
from tavia.amphora.heartbeat import Heartbeat, decode, derive_key
from tavia.model.statuses import Topology
from tavia.pki import Authority
from tavia.render import RenderSettings, render_bundle

COUNTER = itertools.count()
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
HEARTBEAT_KEY = "secret of the controllers"
VIP = "10.20.0.9"
CONTROLLER = "10.30.0.1"
AMPHORA_IDS = ("00000000-0000-4000-8000-000000000005", "00000000-0000-4000-8000-000000000006")
SETTINGS = RenderSettings(vrrp_advert_int=0.1, hard_stop_after=10, nbthread=1)
DAY = timedelta(days=1)
PID_1 = """
set -e
mount -t proc proc /proc; mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/tavia; mount --bind "$0/state" /var/lib/tavia
mount --bind "$0/passwd" /etc/passwd; mount --bind "$0/group" /etc/group
echo ready
sleep infinity & wait
"""
FIRST_UID = 60600


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Wait for a condition to become true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return value


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes belong to the network namespace."""
    with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", namespace).open() as other:
        assert LIBC.setns(other.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert LIBC.setns(own.fileno(), CLONE_NEWNET) == 0


class Lab:
    """The bridges, the ``world`` namespace and all that a test starts; ``close`` removes everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"agent{os.getpid()}-{next(COUNTER)}"
        self.namespaces: list[str] = []
        self.hosts: list[AgentHost] = []
        self.servers: list[Member] = []
        self.hub = self.namespace("hub")
        self.ip(self.hub, "link add br0 type bridge", "link set br0 up")
        self.world = self.namespace("world")
        self.plug(self.world, "eth0", "52:54:00:00:00:01")
        self.ip(
            self.world,
            "link set eth0 up",
            f"addr add {CONTROLLER}/24 dev eth0",
            *(f"addr add 10.20.0.{host}/24 dev eth0" for host in (50, *range(101, 110))),
        )
        self.server_ca = Authority.create("amphorae", ExtendedKeyUsageOID.SERVER_AUTH, DAY)
        self.client_ca = Authority.create("controllers", ExtendedKeyUsageOID.CLIENT_AUTH, DAY)
        self.file("server_ca.pem", self.server_ca.certificate.public_bytes(Encoding.PEM))
        self.file("client_ca.pem", self.client_ca.certificate.public_bytes(Encoding.PEM))
        self.file("client.pem", self.client_ca.issue_controller("controller", DAY).pem)
        with inside(self.world):
            self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.receiver.bind((CONTROLLER, 5555))
        self.receiver.settimeout(10)

    def file(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def namespace(self, name: str) -> str:
        full = f"{self.prefix}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self.namespaces.append(full)
        self.ip(full, "link set lo up")
        return full

    def ip(self, namespace: str, *commands: str) -> None:
        batch = "\n".join(commands) + "\n"
        subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=batch.encode(), check=True)

    def show(self, namespace: str, *words: str) -> str:
        """What ``ip`` shows there."""
        return subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=True).stdout

    def plug(self, namespace: str, name: str, mac: str) -> str:
        """An interface on the bridge, down and without addresses; its other end's name, in the hub."""
        port = f"p{next(COUNTER)}"
        self.ip(
            self.hub,
            f"link add {port} type veth peer name {name} address {mac} netns {namespace}",
            f"link set {port} master br0 up",
        )
        return port

    def host(self, number: int = 0, source: Path | None = None) -> AgentHost:
        """``source`` is where another agent than today's is imported from."""
        host = AgentHost(self, AMPHORA_IDS[number], 5 + number, source)
        self.hosts.append(host)
        return host

    def member(self, number: int = 1, **given: Any) -> Member:
        member = Member(self, f"10.20.0.{100 + number}", **given)
        self.servers.append(member)
        return member

    def heartbeat(self, matching: Callable[[Heartbeat], Any] = lambda heartbeat: True) -> Heartbeat:
        """The next heartbeat that fulfils a condition."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            datagram = self.receiver.recv(65536)
            heartbeat = decode(datagram, lambda amphora_id: derive_key(HEARTBEAT_KEY, amphora_id))
            if matching(heartbeat):
                return heartbeat
        raise AssertionError("no such heartbeat in time")

    def get(self, address: str = VIP, port: int = 80, path: str = "/") -> bytes:
        """The body of one request on a new connection; empty when it fails."""
        with inside(self.world):
            connection = http.client.HTTPConnection(address, port, timeout=2)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.read() if response.status == 200 else b""
            except (OSError, http.client.HTTPException):
                return b""
            finally:
                connection.close()

    @contextmanager
    def request(self, path: str) -> Iterator[Callable[[], bytes]]:
        """A request under way; call what this yields for its body."""
        with inside(self.world):
            connection = http.client.HTTPConnection(VIP, 80, timeout=30)
            connection.request("GET", path)
        try:
            yield lambda: connection.getresponse().read()
        finally:
            connection.close()

    @contextmanager
    def load(self, clients: int) -> Iterator[Load]:
        """Keep-alive clients that ask the VIP without a pause."""
        load = Load(self, clients)
        try:
            yield load
        finally:
            load.stop()

    def close(self) -> None:
        for host in self.hosts:
            host.power_off()
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.receiver.close()
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)


class AgentHost:
    """An amphora: namespaces with a process 1, and the agent when it was started. Its disk survives a power-off."""

    def __init__(self, lab: Lab, amphora_id: str, number: int, source: Path | None = None) -> None:
        self.lab = lab
        self.source = source
        self.id = amphora_id
        self.number = number
        self.mac = f"fa:16:3e:00:00:{number:02x}"
        self.disk = lab.directory / amphora_id
        self.disk.mkdir()
        self.base = self.disk / "state"
        self.base.mkdir()
        for name, line in {"passwd": "{0}:x:{1}:{1}::/:/bin/false", "group": "{0}:x:{1}:"}.items():
            known = Path("/etc", name).read_text()
            users = (each.account.user for each in PROGRAMS)
            missing = (user for user in users if f"\n{user}:" not in known)
            added = (line.format(user, FIRST_UID + number) for number, user in enumerate(missing))
            (self.disk / name).write_text("\n".join([known.rstrip(), *added, ""]))
        self.config = self.disk / "agent.conf"
        (self.disk / "server.pem").write_bytes(lab.server_ca.issue_amphora(amphora_id, DAY).pem)
        self.configure()
        self.netns = ""
        self.pid_1: subprocess.Popen[bytes] | None = None
        self.agent: forked.Forked | None = None
        self.power_on()

    def configure(self, interval: float = 0.5) -> str:
        text = render_agent_config(
            amphora_id=self.id,
            controllers=[f"{CONTROLLER}:5555"],
            heartbeat_interval=interval,
            heartbeat_key_hex=derive_key(HEARTBEAT_KEY, self.id).hex(),
            bind_port=9443,
            bind_host=f"10.30.0.{self.number}",
        )
        certificates = (
            f"agent_server_cert = {self.disk}/server.pem\nagent_server_ca = {self.lab.directory}/client_ca.pem\n"
        )
        text = text.replace("[amphora_agent]\n", f"[amphora_agent]\n{certificates}")
        self.config.write_text(text)
        return text

    def power_on(self, plugged: bool = True) -> None:
        self.netns = self.lab.namespace(f"amphora{self.number}-{next(COUNTER)}")
        self.lab.plug(self.netns, "mgmt0", f"fa:16:3e:01:00:{self.number:02x}")
        self.lab.ip(self.netns, "link set mgmt0 up", f"addr add 10.30.0.{self.number}/24 dev mgmt0")
        if plugged:
            self.plug()
        command = ["ip", "netns", "exec", self.netns, "unshare", "-m", "-p", "-f", "--kill-child"]
        command += ["bash", "-c", PID_1, str(self.disk)]
        self.pid_1 = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.pid_1.stdout and self.pid_1.stdout.readline() == b"ready\n"

    def plug(self) -> None:
        """The data interface, under a name that nobody wants."""
        self.port = self.lab.plug(self.netns, "plugged", self.mac)

    @property
    def _inner(self) -> int:
        """Process 1 of the amphora as the host numbers it: ``unshare`` is its parent."""
        assert self.pid_1
        return _children(self.pid_1.pid)[0]

    def start_agent(self) -> None:
        self.agent = forked.start(
            "tavia-agent",
            *("--config-file", str(self.config)),
            out=self.disk / "agent.log",
            modules=forked.AGENT,
            environment=os.environ | ({"PYTHONPATH": str(self.source)} if self.source else {}),
            inside=self._inner,
        )

    def ready(self) -> AgentHost:
        """Start the agent and wait until it answers."""
        self.start_agent()
        until(self.answers)
        return self

    def answers(self) -> bool:
        with inside(self.lab.world):
            try:
                socket.create_connection((f"10.30.0.{self.number}", 9443), 1).close()
            except OSError:
                return False
        return True

    def kill_agent(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.agent
        for pid in _children(self.agent.pid):
            os.kill(pid, number)
        self.agent.wait(10)

    def power_off(self) -> None:
        for process in (self.pid_1, self.agent):
            if process:
                for pid in _children(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.kill()
                process.wait()
        if self.netns in self.lab.namespaces:
            subprocess.run(["ip", "netns", "del", self.netns], check=False)
            self.lab.namespaces.remove(self.netns)

    @contextmanager
    def client(
        self,
        *,
        client_cert: Path | None = None,
        server_ca: Path | None = None,
        amphora_id: str | None = None,
        connect_timeout: float = 3.0,
        read_timeout: float = 30.0,
    ) -> Iterator[AgentClient]:
        """A controller's client, used inside the ``with`` only."""
        with inside(self.lab.world):
            client = AgentClient(
                f"10.30.0.{self.number}",
                9443,
                amphora_id or self.id,
                client_cert=client_cert or self.lab.directory / "client.pem",
                server_ca=server_ca or self.lab.directory / "server_ca.pem",
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )
            try:
                yield client
            finally:
                client.close()

    def put(self, bundle: Bundle) -> str:
        """Apply a bundle; what was done to HAProxy."""
        with self.client() as client:
            return client.put_bundle(bundle).action

    def run_file(self, name: str) -> Path:
        """A file of the amphora's /run/tavia."""
        return Path(f"/proc/{self._inner}/root/run/tavia", name)

    def ask(self, command: str) -> str:
        """HAProxy's answer on its stats socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.run_file("haproxy.sock")))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def stat(self, name: str) -> dict[str, str]:
        """The line of ``show stat`` of a server or a frontend; empty when there is none."""
        header, *lines = (line.split(",") for line in self.ask("show stat").removeprefix("# ").splitlines())
        rows = (dict(zip(header, line, strict=False)) for line in lines)
        return next((row for row in rows if name in (row["svname"], row["pxname"])), {})

    def pids(self, name: str) -> list[int]:
        """The amphora's processes of a name as the host numbers them, parents first."""
        found = subprocess.run(["ip", "netns", "pids", self.netns], capture_output=True, text=True, check=True)
        return [pid for pid in map(int, found.stdout.split()) if _name(pid) == name]

    def addresses(self, interface: str = "eth1") -> str:
        command = ["ip", "-n", self.netns, "-br", "addr", "show", "dev", interface]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    @contextmanager
    def taken(self, address: str, port: int) -> Iterator[None]:
        """Another program listens there, inside the amphora."""
        with inside(self.netns), socket.create_server((address, port)):
            yield

    def show(self, *words: str) -> str:
        """What ``ip`` shows inside."""
        return self.lab.show(self.netns, *words)

    def state(self) -> str | None:
        """VRRP's, as the agent tells it."""
        with self.client() as client:
            return client.status().vrrp_state

    def certificate(self) -> bytes:
        """What the agent shows to a new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.lab.directory / "client.pem")
        with (
            inside(self.lab.world),
            socket.create_connection((f"10.30.0.{self.number}", 9443), 5) as connection,
            context.wrap_socket(connection) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    def log(self) -> str:
        return (self.disk / "agent.log").read_text()


class Load:
    """Clients that keep their connections; every response but 200 and every broken connection is a failure."""

    def __init__(self, lab: Lab, clients: int) -> None:
        self.served = 0
        self.failed: list[str] = []
        self._lab = lab
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with inside(self._lab.world):
            connection = http.client.HTTPConnection(VIP, 80, timeout=5)
            while not self._stopping.wait(0.002):
                try:
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    response.read()
                    self.served += 1
                    if response.status != 200:
                        self.failed.append(f"status {response.status}")
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(repr(error))
                    connection.close()
            connection.close()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


class Member(http.server.ThreadingHTTPServer):
    """An HTTP/1.1 server that says its name; ``/slow`` waits for ``release`` between head and body."""

    daemon_threads = True

    def __init__(self, lab: Lab, address: str, port: int = 8080) -> None:
        self.release = threading.Event()
        self.busy = threading.Event()
        with inside(lab.world):
            super().__init__((address, port), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Member

    def do_GET(self) -> None:
        body = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/slow":
            self.wfile.flush()
            self.server.busy.set()
            self.server.release.wait(30)
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def bundle(
    host: AgentHost, *rows: Any, fence: Fence | None = None, settings: RenderSettings = SETTINGS, **given: Any
) -> Bundle:
    """A SINGLE load balancer's bundle for the host."""
    row = amphora(host.id, vrrp_mac=host.mac, vrrp_ip=f"10.20.0.{host.number}")
    network = dataclasses.replace(NETWORK, gateway_ip="10.20.0.50")
    return render_bundle(tree(*rows, **given), row, None, network, settings, fence or Fence(1, 1, "worker"))


def pair_bundles(hosts: tuple[AgentHost, AgentHost], *rows: Any, **given: Any) -> tuple[Bundle, Bundle]:
    """The two bundles of an ACTIVE_STANDBY load balancer."""
    master, backup = (dataclasses.replace(row, id=host.id) for row, host in zip(pair(), hosts, strict=True))
    whole, fence = tree(*rows, topology=Topology.ACTIVE_STANDBY, **given), Fence(1, 1, "worker")
    return (
        render_bundle(whole, master, backup, NETWORK, SETTINGS, fence),
        render_bundle(whole, backup, master, NETWORK, SETTINGS, fence),
    )


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""
