"""The real agent, HAProxy and TLS inside a real sandbox: together they are an amphora that serves its VIP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

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
AMPHORA_ID = str(uuid.uuid4())


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


def boot(cloud: LocalCloud, pki: Path) -> Machine:
    """A server as the worker boots it, with a port that may send from the VIP."""
    config = render_agent_config(
        amphora_id=AMPHORA_ID,
        controllers=["198.18.0.2:5555"],
        heartbeat_interval=1.0,
        heartbeat_key_hex=derive_key("secret", AMPHORA_ID).hex(),
        bind_port=9443,
    )
    authority = Authority.load(pki / files.SERVER_CA, pki / files.SERVER_CA_KEY, None)
    content = {
        "/etc/octavia/amphora-agent.conf": config.encode(),
        "/etc/octavia/certs/server.pem": authority.issue_amphora(AMPHORA_ID, timedelta(days=1)).pem,
        "/etc/octavia/certs/client_ca.pem": (pki / files.CLIENT_CA).read_bytes(),
    }
    ports = cloud.port("lb-mgmt-net"), cloud.port("demo-net", allowed=frozenset({VIP}))
    return cloud.boot_only(*ports, name=f"amphora-{AMPHORA_ID}", files=content)


def serve(machine: Machine, agent: AgentClient) -> None:
    """Have it serve a listener whose one member is MEMBER."""
    row = trees.amphora(AMPHORA_ID, vrrp_ip=machine.address(1), vrrp_mac=machine.ports[1].mac_address)
    tree = trees.tree(trees.listener(), trees.pool(), trees.member(address=MEMBER, protocol_port=8080), vip_address=VIP)
    agent.put_bundle(render_bundle(tree, row, None, NETWORK, RenderSettings(), Fence(1, 1, "worker")))


def fetch(namespace: str) -> str:
    command = ["curl", "-sS", "--max-time", "2", f"http://{VIP}/hello"]
    return within(namespace, lambda: subprocess.run(command, capture_output=True, text=True, check=False).stdout)


@pytest.mark.usefixtures("member")
def test_an_amphora_serves_its_vip_and_serves_again_after_a_power_cut(real: LocalCloud, tmp_path: Path) -> None:
    client = real.client.attach_host("client", real.network_id("demo-net"))
    machine = boot(real, tmp_path / "pki")
    agent = AgentClient(
        machine.address(0),
        9443,
        AMPHORA_ID,
        client_cert=tmp_path / "pki" / files.CLIENT,
        server_ca=tmp_path / "pki" / files.SERVER_CA,
        connect_timeout=2.0,
        read_timeout=10.0,
    )
    eventually(lambda: within(real.instance.fabric, agent.status), "the agent answers through mutual TLS")
    within(real.instance.fabric, lambda: serve(machine, agent))
    eventually(lambda: fetch(client) == "from the member", "the VIP serves")

    os.kill(real.pid(machine), signal.SIGKILL)
    eventually(lambda: fetch(client) == "", "nothing serves")
    real.client.power_on(machine.id)
    eventually(lambda: fetch(client) == "from the member", "it serves again from its disk, nobody told it to")
