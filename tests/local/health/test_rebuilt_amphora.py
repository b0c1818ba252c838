"""A real amphora gets a new disk: it is heard again at once, and what was sent from the old one is never believed."""

from __future__ import annotations

import configparser
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agent_lab import inside, until
from instance_driver import Driver, driving
from sqlalchemy import select

from tavia.amphora import paths
from tavia.amphora.heartbeat import MAGIC, MAX_COUNT, Heartbeat, derive_key, encode
from tavia.cli.api_client import ApiClient
from tavia.cli.embedded import HEARTBEAT_PORT
from tavia.cloud.local.networks import CONTROLLER_ADDRESS
from tavia.store import schema
from tavia.store.database import Database

ETH_P_ALL = 3
IP_UDP_HEADERS = 28


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with driving(tmp_path_factory.mktemp("rebuilt") / "state") as its:
        its.tavia("up")
        api = ApiClient(its.embedded.api_url)
        body = {"name": "one", "project_id": "tenant", "vip_subnet_id": its.demo_subnet_id()}
        api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})
        yield its


def health(database: Database, amphora_id: str) -> Any:
    with database.read() as conn:
        its = schema.amphora_health.c
        return conn.execute(select(schema.amphora_health).where(its.amphora_id == amphora_id)).one_or_none()


def captured(fabric: str, amphora_id: bytes) -> bytes:
    """A heartbeat of this amphora, as it passes by."""
    with inside(fabric), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as sniffer:
        sniffer.settimeout(1.0)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            packet = sniffer.recv(65536)
            if packet[IP_UDP_HEADERS:].startswith(MAGIC + amphora_id):
                return packet[IP_UDP_HEADERS:]
    raise AssertionError("no heartbeat came by")


def test_one_with_a_new_disk_is_heard_again_and_old_heartbeats_are_refused(driver: Driver) -> None:
    embedded = driver.embedded
    database = Database.connect(embedded.database)
    api = ApiClient(embedded.api_url)

    def allocated() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.call("GET", "/octavia/amphorae?status=ALLOCATED")["amphorae"]
        return [each for each in found if health(database, each["id"])]

    amphora = until(allocated, 60)[0]
    amphora_id, compute_id = amphora["id"], amphora["compute_id"]
    replay = captured(embedded.instance.fabric, bytes.fromhex(amphora_id.replace("-", "")))
    old = until(lambda: health(database, amphora_id))
    assert old.start_id

    embedded.cloud.power_off(compute_id)
    disk = embedded.instance.server_directory(compute_id) / "disk" / Path(paths.STATE_DIR).relative_to("/")
    wiped = [path for path in disk.rglob("*") if path.is_file()]
    assert {"boot_count", "start_id"} <= {path.name for path in wiped}
    for path in wiped:
        path.unlink()
    embedded.cloud.power_on(compute_id)
    new = until(lambda: (row := health(database, amphora_id)).start_id != old.start_id and row, 20)
    assert new.boot_count <= 2
    assert amphora_id in {each["id"] for each in allocated()}

    conf = configparser.RawConfigParser()
    conf.read(embedded.config_file)
    key = derive_key(conf["health_manager"]["heartbeat_key"], amphora_id)
    never_delivered = Heartbeat(
        amphora_id=amphora_id, boot_count=MAX_COUNT, seq=1, start_id=old.start_id, haproxy_up=True
    )

    def newer(seq: int) -> Any:
        row = health(database, amphora_id)
        return row.seq > seq and row

    for _ in range(3):
        with inside(embedded.instance.fabric), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in (replay, encode(never_delivered, key)):
                sender.sendto(datagram, (CONTROLLER_ADDRESS, HEARTBEAT_PORT))
        seen = health(database, amphora_id)
        later = until(partial(newer, seen.seq + 1), 20)
        assert (later.start_id, later.boot_count) == (new.start_id, new.boot_count)
    assert "has a new disk, its agent says so" in (embedded.log_dir / "tavia-health-manager.log").read_text()
    database.dispose()
