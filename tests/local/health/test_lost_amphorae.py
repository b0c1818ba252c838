"""Real amphorae on a real instance are lost in three ways; nobody asks, and the load balancer is whole again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from instance_driver import Driver, driving
from sqlalchemy import select

from tavia.cli.api_client import ApiClient
from tavia.cli.progress import wait_until
from tavia.cloud.local import rules
from tavia.cloud.protocols import ServerStatus
from tavia.store import liveness, schema
from tavia.store.database import Database


@dataclass
class Deployment:
    """An instance with one load balancer, a pair of amphorae."""

    driver: Driver
    api: ApiClient
    database: Database
    loadbalancer_id: str

    def amphorae(self) -> list[dict[str, Any]]:
        """Those that carry traffic, the master first."""
        path = f"/octavia/amphorae?loadbalancer_id={self.loadbalancer_id}&status=ALLOCATED"
        found: list[dict[str, Any]] = self.api.call("GET", path)["amphorae"]
        return sorted(found, key=lambda amphora: str(amphora["role"]), reverse=True)

    def pid_one(self, amphora: dict[str, Any]) -> int:
        """The process that all others of its sandbox die with."""
        records = self.driver.embedded.instance.directory / "servers"
        return int(json.loads((records / f"{amphora['compute_id']}.json").read_text())["process"]["pid"])

    def is_whole(self) -> bool:
        """Two amphorae, both heard, and the load balancer at rest and serving."""
        lb = self.api.call("GET", f"/lbaas/loadbalancers/{self.loadbalancer_id}")["loadbalancer"]
        with self.database.read() as conn:
            heard = [s.works for s in liveness.siblings(conn, [self.loadbalancer_id], timeout=2.0)]
        return (lb["provisioning_status"], lb["operating_status"], heard) == ("ACTIVE", "ONLINE", [True, True])

    def events(self) -> list[tuple[str, str, str]]:
        """What the health manager did, and why."""
        operation = schema.operation.c
        with self.database.read() as conn:
            found = select(operation.what, operation.seam, operation.code).where(operation.epoch == 0)
            rows = conn.execute(found.order_by(operation.started))
            return [(row.what, row.seam, row.code) for row in rows]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with driving(tmp_path_factory.mktemp("health") / "state") as driver:
        driver.tavia("up")
        api = ApiClient(driver.embedded.api_url)
        listener = {"name": "web", "protocol": "HTTP", "protocol_port": 80}
        body = {
            "name": "pair",
            "project_id": "tenant",
            "vip_subnet_id": driver.demo_subnet_id(),
            "listeners": [listener],
        }
        made = api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})["loadbalancer"]
        yield Deployment(driver, api, Database.connect(driver.embedded.database), made["id"])


@pytest.fixture(autouse=True)
def whole(deployment: Deployment) -> None:
    wait_for(deployment.is_whole, "both amphorae serve")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    assert wait_until(condition, 60), what


def lost_and_healed(deployment: Deployment, amphora: dict[str, Any]) -> None:
    """The amphora is replaced by another, and all is well."""

    def is_replaced() -> bool:
        return amphora["id"] not in {a["id"] for a in deployment.amphorae()} and deployment.is_whole()

    wait_for(is_replaced, "it is replaced")


def test_one_whose_server_is_gone_is_replaced(deployment: Deployment) -> None:
    master, _ = deployment.amphorae()
    deployment.driver.embedded.cloud.delete(master["compute_id"])
    lost_and_healed(deployment, master)
    assert deployment.events()[-1] == ("automatic-failover", "boot", "server-gone")


def test_one_that_is_cut_off_from_us_but_not_from_its_peer_is_replaced_and_told_so(deployment: Deployment) -> None:
    master, _ = deployment.amphorae()
    embedded = deployment.driver.embedded
    ports = {port.fixed_ips[0].ip_address: port.id for port in embedded.cloud.ports()}
    its_end = rules.interface(ports[master["lb_network_ip"]])
    subprocess.run(["ip", "-n", embedded.instance.fabric, "link", "set", its_end, "down"], check=True)
    lost_and_healed(deployment, master)
    assert deployment.events()[-1] == ("automatic-failover", "mgmt-net", "silent")
    assert deployment.driver.embedded.cloud.server(master["compute_id"]) is None  # fenced, then removed


def test_one_whose_processes_were_all_killed_is_started_again_and_serves_what_it_served(deployment: Deployment) -> None:
    master, _ = deployment.amphorae()
    os.kill(deployment.pid_one(master), signal.SIGKILL)
    wait_for(lambda: ("amphora-start", "boot", "server-off") in deployment.events(), "it is started")
    wait_for(deployment.is_whole, "it serves again")
    assert master["id"] in {a["id"] for a in deployment.amphorae()}
    server = deployment.driver.embedded.cloud.server(master["compute_id"])
    assert server and server.status is ServerStatus.ACTIVE
