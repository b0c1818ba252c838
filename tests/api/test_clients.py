"""The clients that people already have, against the real service: openstackclient's CLI and openstacksdk.

Both read a clouds.yaml like the one that ``tavia up`` writes. The cloud is the one that does nothing, so a worker's
commits are made by hand where a client waits for them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import openstack
import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException
from ports import free_port
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select
from tests.api.conftest import SUBNET

from tavia.store import commits, schema, trees
from tavia.store.database import Database
from tavia.store.migrate import upgrade
from tavia.store.opening import open_database

pytestmark = pytest.mark.large


@dataclass
class Service:
    """A running tavia-api."""

    url: str
    directory: Path
    database: Database

    def openstack(self, *words: str, ok: bool = True) -> Any:
        """What the CLI prints, as JSON where it can."""
        done = forked.openstack(self.directory / "clouds.yaml", "tavia", "loadbalancer", *words)
        assert (done.returncode == 0) == ok, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("[", "{")) else done.stdout + done.stderr

    def shown(self, *words: str) -> Any:
        return self.openstack(*words, "-f", "json")

    def converge(self) -> None:
        """What a worker commits after everything is applied."""
        self.database.write(_converge)


def _converge(conn: SqlConnection) -> None:
    table = schema.load_balancer
    for row in conn.execute(select(table).where(table.c.provisioning_status != "DELETED")).mappings().all():
        if row["deleted_generation"] is not None:
            commits.commit_deleted(conn, row["id"])
        else:
            commits.commit_children(conn, trees.read_tree(conn, row["id"]), {}, {})
            commits.commit_converged(conn, row["id"], row["generation"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("api")
    connection = f"sqlite:///{directory}/tavia.sqlite"
    upgrade(connection)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (directory / "octavia.conf").write_text(
        f"[api_settings]\nauth_strategy = noauth\nbind_port = {port}\n"
        "[controller_worker]\ncompute_driver = compute_noop_driver\nnetwork_driver = network_noop_driver\n"
        "image_driver = image_noop_driver\n"
        f"[database]\nconnection = {connection}\n[health_manager]\nheartbeat_key = not-used\n"
    )
    (directory / "clouds.yaml").write_text(
        "clouds:\n  tavia:\n    auth_type: none\n"
        f"    auth:\n      endpoint: {url}\n    network_endpoint_override: {url}/network\n"
    )
    command = "from tavia.api.service import main; main()"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "--config-file", str(directory / "octavia.conf")], stdout=log, stderr=log
        )
    try:
        wait_until_served(url, process, directory / "log")
        yield Service(url, directory, open_database(connection))
    finally:
        process.terminate()
        process.wait(20)


def wait_until_served(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@pytest.fixture
def working(service: Service) -> Iterator[Service]:
    """The service with a worker that commits at once."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.2):
            service.converge()

    worker = threading.Thread(target=work)
    worker.start()
    yield service
    stop.set()
    worker.join()


def test_the_cli_drives_a_load_balancer_through_its_life(working: Service) -> None:
    cli = working.shown
    created = cli("create", "--name", "lb", "--vip-subnet-id", SUBNET, "--wait")
    assert created["provisioning_status"] == "ACTIVE"
    listener = cli("listener", "create", "--name", "web", "--protocol", "HTTP", "--protocol-port", "80", "lb", "--wait")
    assert listener["protocol_port"] == 80
    pool = ("--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN")
    cli("pool", "create", "--name", "pool", *pool, "--listener", "web", "--session-persistence", "type=SOURCE_IP")
    member = ("--address", "10.0.0.1", "--protocol-port", "80", "--subnet-id", SUBNET)
    assert cli("member", "create", "--name", "m", *member, "pool", "--wait")["operating_status"] == "NO_MONITOR"
    monitor = ("--type", "HTTP", "--delay", "5", "--timeout", "3", "--max-retries", "2", "--url-path", "/up")
    assert cli("healthmonitor", "create", "--name", "hm", *monitor, "pool")["url_path"] == "/up"
    working.openstack("member", "set", "--weight", "7", "pool", "m")
    assert cli("member", "show", "pool", "m")["weight"] == 7
    working.openstack("set", "--description", "d", "lb")
    working.openstack("unset", "--description", "lb")
    assert cli("show", "lb")["description"] == ""
    assert [m["name"] for m in cli("member", "list", "pool")] == ["m"]
    assert [row["name"] for row in cli("list", "--tags", "nothing")] == []
    tree = working.openstack("status", "show", "lb")["loadbalancer"]
    assert tree["listeners"][0]["pools"][0]["members"][0]["address"] == "10.0.0.1"
    assert cli("stats", "show", "lb")["total_connections"] == 0
    assert cli("listener", "stats", "show", "web")["bytes_in"] == 0
    assert cli("provider", "list")[0]["name"] == "amphora"
    assert working.shown("amphora", "list") == []
    working.openstack("failover", "lb", "--wait")
    refused = working.openstack("delete", "lb", ok=False)
    assert "has children" in refused
    working.openstack("delete", "lb", "--cascade", "--wait")
    assert cli("list") == []


def test_a_mistake_is_read_in_the_cli(service: Service) -> None:
    told = service.openstack("create", "--vip-subnet-id", SUBNET, "--provider", "nobody", ok=False)
    assert "Provider 'nobody' is not enabled. (HTTP 400)" in told


@pytest.fixture
def sdk(service: Service, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(service.directory / "clouds.yaml"))
    return openstack.connect(cloud="tavia")


def test_the_sdk_makes_finds_pages_changes_and_deletes(working: Service, sdk: Connection) -> None:
    api = sdk.load_balancer
    for number in range(3):
        api.create_load_balancer(name=f"sdk{number}", vip_subnet_id=SUBNET, tags=["sdk"])
    assert [lb.name for lb in api.load_balancers(limit=1, tags=["sdk"])] == ["sdk0", "sdk1", "sdk2"]
    lb = api.find_load_balancer("sdk1")
    assert lb
    api.wait_for_load_balancer(lb.id, interval=1)
    listener = api.create_listener(load_balancer_id=lb.id, protocol="TCP", protocol_port=443)
    pool = api.create_pool(listener_id=listener.id, protocol="TCP", lb_algorithm="SOURCE_IP")
    member = api.create_member(pool.id, address="10.0.0.1", protocol_port=443)
    assert api.update_member(member, pool.id, weight=3).weight == 3
    monitor = api.create_health_monitor(pool_id=pool.id, type="TCP", delay=1, timeout=1, max_retries=1)
    assert api.get_pool(pool.id).health_monitor_id == monitor.id
    assert [m.id for m in api.members(pool.id)] == [member.id]
    assert api.get_load_balancer_statistics(lb.id).bytes_in == 0
    api.failover_load_balancer(lb.id)
    with pytest.raises(BadRequestException, match="has children"):
        api.delete_load_balancer(lb)
    for name in ("sdk0", "sdk1", "sdk2"):
        found = api.find_load_balancer(name, ignore_missing=False)
        api.delete_load_balancer(found, cascade=True)
    deadline = time.monotonic() + 20
    while list(api.load_balancers()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_sdk_asks_in_vain_for_what_a_cloud_without_neutron_lacks(sdk: Connection) -> None:
    network = sdk.network
    assert list(network.ips(port_id=SUBNET)) == list(network.security_groups()) == list(network.qos_policies()) == []
    assert network.find_ip("203.0.113.9") is network.find_security_group("web") is network.find_qos_policy("slow")
    assert sdk.list_floating_ips() == sdk.search_security_groups("web") == []
