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


def serve(machine: Machine, agent: AgentClient, *rows: Any) -> None:
    """Have it serve a listener whose one member is MEMBER, or these rows."""
    rows = rows or (trees.listener(), trees.pool(), trees.member(address=MEMBER, protocol_port=8080))
    row = trees.amphora(AMPHORA_ID, vrrp_ip=machine.address(1), vrrp_mac=machine.ports[1].mac_address)
    tree = trees.tree(*rows, vip_address=VIP)
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
