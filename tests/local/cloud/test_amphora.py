"""The real agent, HAProxy and TLS inside a real sandbox: together they are an amphora that serves its VIP."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trees
from local_cloud import LocalCloud, Machine, eventually, within

from tavia.amphora.agent_config import render_agent_config
from tavia.amphora.bundle import Fence
from tavia.amphora.client import AgentClient
from tavia.amphora.heartbeat import derive_key
from tavia.cloud.local import cgroups
from tavia.model.statuses import Role, Topology
from tavia.pki import Authority, files
from tavia.render import RenderSettings, VipNetwork, render_bundle

VIP, MEMBER = "198.19.0.100", "198.19.0.80"
NETWORK = VipNetwork(cidr="198.19.0.0/24", gateway_ip="198.19.0.1", host_routes=(), mtu=1500)
AMPHORA_ID, OTHER_ID = str(uuid.uuid4()), str(uuid.uuid4())
SERIAL = itertools.count(1)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[LocalCloud]:
    """A cloud whose servers run the agent."""
    cloud = LocalCloud(tmp_path / "state", "--agent", "tavia.agent.service:run")
    files.init(tmp_path / "pki")
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.remove()


@pytest.fixture
def member(real: LocalCloud, tmp_path: Path) -> Iterator[None]:
    """A web server at MEMBER that says "from the member"."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "hello").write_text("from the member")
    namespace = real.client.attach_host("member", real.network_id("demo-net"), MEMBER)
    command = [sys.executable, "-m", "http.server", "8080", "--directory", str(tmp_path / "web")]
    with subprocess.Popen(["ip", "netns", "exec", namespace, *command], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def boot(cloud: LocalCloud, pki: Path, amphora_id: str = AMPHORA_ID) -> Machine:
    """A server as the worker boots it, with a port that may send from the VIP."""
    config = render_agent_config(
        amphora_id=amphora_id,
        controllers=["198.18.0.2:5555"],
        heartbeat_interval=1.0,
        heartbeat_key_hex=derive_key("secret", amphora_id).hex(),
        bind_port=9443,
    )
    authority = Authority.load(pki / files.SERVER_CA, pki / files.SERVER_CA_KEY, None)
    content = {
        "/etc/octavia/amphora-agent.conf": config.encode(),
        "/etc/octavia/certs/server.pem": authority.issue_amphora(amphora_id, timedelta(days=1)).pem,
        "/etc/octavia/certs/client_ca.pem": (pki / files.CLIENT_CA).read_bytes(),
    }
    ports = cloud.port("lb-mgmt-net"), cloud.port("demo-net", allowed=frozenset({VIP}))
    return cloud.boot_only(*ports, name=f"amphora-{amphora_id}", files=content)


def client_of(machine: Machine, pki: Path, amphora_id: str = AMPHORA_ID) -> AgentClient:
    return AgentClient(
        machine.address(0),
        9443,
        amphora_id,
        client_cert=pki / files.CLIENT,
        server_ca=pki / files.SERVER_CA,
        connect_timeout=2.0,
        read_timeout=10.0,
    )


def serve(machine: Machine, agent: AgentClient, *rows: Any, **given: Any) -> None:
    """Have it serve a listener whose one member is MEMBER, or these rows."""
    rows = rows or (trees.listener(), trees.pool(), trees.member(address=MEMBER, protocol_port=8080))
    row = trees.amphora(AMPHORA_ID, vrrp_ip=machine.address(1), vrrp_mac=machine.ports[1].mac_address, role=Role.MASTER)
    tree = trees.tree(*rows, vip_address=VIP, **given)
    fence = Fence(1, next(SERIAL), "worker")
    agent.put_bundle(render_bundle(tree, row, None, NETWORK, RenderSettings(nbthread=1), fence))


def fetch(namespace: str) -> str:
    command = ["curl", "-sS", "--max-time", "2", f"http://{VIP}/hello"]
    return within(namespace, lambda: subprocess.run(command, capture_output=True, text=True, check=False).stdout)


@pytest.mark.usefixtures("member")
def test_an_amphora_serves_its_vip_and_serves_again_after_a_power_cut(real: LocalCloud, tmp_path: Path) -> None:
    client = real.client.attach_host("client", real.network_id("demo-net"))
    machine = boot(real, tmp_path / "pki")
    agent = client_of(machine, tmp_path / "pki")
    eventually(lambda: within(real.instance.fabric, agent.status), "the agent answers through mutual TLS")
    within(real.instance.fabric, lambda: serve(machine, agent))
    eventually(lambda: fetch(client) == "from the member", "the VIP serves")

    os.kill(real.pid(machine), signal.SIGKILL)
    eventually(lambda: fetch(client) == "", "nothing serves")
    real.client.power_on(machine.id)
    eventually(lambda: fetch(client) == "from the member", "it serves again from its disk, nobody told it to")


def test_what_haproxy_sends_never_reaches_the_management_network(real: LocalCloud, tmp_path: Path) -> None:
    """A tenant names another amphora's management address as a member: its agent is not to be talked to."""
    pki = tmp_path / "pki"
    client = real.client.attach_host("client", real.network_id("demo-net"))
    bystander = real.client.attach_host("bystander", real.network_id("lb-mgmt-net"))
    ours, other = boot(real, pki), boot(real, pki, OTHER_ID)
    agent, its_agent = client_of(ours, pki), client_of(other, pki, OTHER_ID)
    eventually(lambda: within(real.instance.fabric, agent.status), "our agent answers")
    eventually(lambda: within(real.instance.fabric, its_agent.status), "the other's agent answers")
    listening = within(bystander, lambda: socket.create_server(("", 9443)))
    listening.settimeout(5)
    with listening:
        its_address = next(p for p in real.client.ports() if p.device_id == bystander).fixed_ips[0].ip_address
        for name, address in (("other", other.address(0)), ("bystander", its_address)):
            rows = (
                trees.listener(name, protocol="TCP", protocol_port=80, timeout_member_connect=300),
                trees.pool(protocol="TCP"),
                trees.member(address=address, protocol_port=9443),
            )
            within(real.instance.fabric, partial(serve, ours, agent, *rows))
            assert not within(client, certificate_at_vip), f"{name} completed a handshake"
        within(real.instance.fabric, lambda: socket.create_connection((its_address, 9443), 5).close())
        _, (asker, _) = listening.accept()
    assert asker == "198.18.0.2", "the first that got to the bystander is the controller"


def certificate_at_vip() -> bytes:
    """What is shown to who speaks TLS with the VIP; empty when nobody does before HAProxy gives up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((VIP, 80), 5) as connection:
        connection.settimeout(30)
        try:
            with context.wrap_socket(connection) as tls:
                return tls.getpeercert(binary_form=True) or b""
        except (ssl.SSLError, ConnectionError):
            return b""


FILES_OF = {
    "haproxy": {
        "/run/tavia/haproxy.sock": "rw",
        "/run/tavia/haproxy.track": "r",
        "/run/tavia/server-state": "r",
        "/var/lib/tavia/haproxy.cfg": "r",
    },
    "keepalived": {
        "/run/tavia/haproxy.track": "r",
        "/run/tavia/keepalived/main.pid": "rw",
        "/run/tavia/keepalived/vrrp.pid": "rw",
        "/run/tavia/vrrp.fifo": "rw",
        "/var/lib/tavia/keepalived.conf": "r",
    },
}
"""All that a program's user may do with the files of an amphora: what is not here is the agent's or another's."""
DIRECTORIES_OF = {"haproxy": ["/run/tavia"], "keepalived": ["/run/tavia/keepalived"]}
POWERS_OF = {"haproxy": 1 << 10, "keepalived": 1 << 12 | 1 << 13}
"""NET_BIND_SERVICE; NET_ADMIN and NET_RAW: capability.h."""
HOMES = "/etc/octavia /run/tavia /var/lib/tavia"


def test_who_breaks_a_program_gets_nothing_of_the_agent_s_or_another_s(real: LocalCloud, tmp_path: Path) -> None:
    machine = boot(real, tmp_path / "pki")
    agent = client_of(machine, tmp_path / "pki")
    eventually(lambda: within(real.instance.fabric, agent.status), "the agent answers")
    within(real.instance.fabric, lambda: serve(machine, agent, topology=Topology.ACTIVE_STANDBY))
    eventually(lambda: within(real.instance.fabric, agent.status).vrrp_state == "MASTER", "VRRP has begun")
    within(real.instance.fabric, lambda: serve(machine, agent, trees.listener(), topology=Topology.ACTIVE_STANDBY))
    inside = Inside(real, machine)
    all_files = inside.run(0, f"find {HOMES} ! -type d").split()
    assert {"/etc/octavia/amphora-agent.conf", "/etc/octavia/certs/server.pem", "/var/lib/tavia/bundle.json"} <= set(
        all_files
    )
    users = {name: {inside.status(pid)["Uid"][0] for pid in inside.pids(name)} for name in FILES_OF}
    assert [len(uids) for uids in users.values()] == [1, 1] and len(set.union({"0"}, *users.values())) == 3
    for name, allowed in FILES_OF.items():
        uid = int(next(iter(users[name])))
        others = {pid for pid in inside.pids("") if str(uid) not in inside.status(pid)["Uid"]}
        assert inside.may(uid, all_files) == allowed
        directories = inside.run(0, f"find {HOMES} -type d").split()
        assert [path for path, may in inside.may(uid, directories).items() if "w" in may] == DIRECTORIES_OF[name]
        for pid in inside.pids(name):
            status = inside.status(pid)
            assert {int(status[powers][0], 16) for powers in ("CapPrm", "CapEff", "CapAmb")} == {POWERS_OF[name]}
            assert (status["NoNewPrivs"], status["Groups"]) == (["1"], [])
            assert not inside.sockets(pid) & inside.sockets(inside.agent), "one of the agent's, that it was passed"
        for pid in map(inside.as_inside, others):
            look = f"cat /proc/{pid}/environ; readlink /proc/{pid}/exe; ls /proc/{pid}/fd"
            assert inside.run(uid, f"kill -0 {pid} && echo signalled; {look}") == "", "access mode checking, ptrace(2)"


class Inside:
    """What runs in a server, and commands in it as any of its users."""

    def __init__(self, cloud: LocalCloud, machine: Machine) -> None:
        self.cloud = cloud
        self.machine = machine
        self.init = cloud.pid(machine)
        (self.agent,) = map(int, Path(f"/proc/{self.init}/task/{self.init}/children").read_text().split()[:1])

    def run(self, uid: int, command: str) -> str:
        """Standard output only."""
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-n", "-S", str(uid), "-G", str(uid)]
        ran = subprocess.run([*enter, "sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False, timeout=30)
        return ran.stdout

    def may(self, uid: int, paths: list[str]) -> dict[str, str]:
        """path -> "r", "w" or both, where that user may."""
        one = 'm=; [ -r "$p" ] && m=r; [ -w "$p" ] && m=${m}w; [ -z "$m" ] || echo "$p $m"'
        said = self.run(uid, f"for p in {' '.join(paths)}; do {one}; done")
        return dict(line.split() for line in sorted(said.splitlines()))

    def pids(self, name: str) -> set[int]:
        """The server's processes of this name, or all, as the host numbers them."""
        found = cgroups.pids(f"{self.cloud.instance.fabric}/{self.machine.id}")
        return {pid for pid in found if name in ("", Path(f"/proc/{pid}/comm").read_text().strip())}

    def status(self, pid: int) -> dict[str, list[str]]:
        lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return {key: value.split() for key, _, value in lines}

    def as_inside(self, pid: int) -> int:
        """As the server numbers it."""
        return int(self.status(pid)["NSpid"][-1])

    def sockets(self, pid: int) -> set[str]:
        return {t for each in Path(f"/proc/{pid}/fd").iterdir() if (t := str(each.readlink())).startswith("socket:")}
