"""``tavia-health-manager`` as a process: real heartbeats by UDP, a real database, real probes of agents by TLS."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fleet import Fleet, beat, open_listener, up
from ports import free_port
from sqlalchemy import select

from tavia import pki
from tavia.amphora.heartbeat import derive_key, encode
from tavia.store import liveness, schema

KEY = "a secret of this test"
TIMEOUT = 1.5
START_SECONDS = 60.0
"""It imports for 3 s, which take 20 where others use the machine too."""


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


def silent_for(fleet: Fleet, amphora_id: str) -> float:
    """Seconds since its last recorded heartbeat."""
    with fleet.database.read() as conn:
        last = conn.execute(
            select(schema.amphora_health.c.last_update).where(schema.amphora_health.c.amphora_id == amphora_id)
        )
        return liveness.database_time(conn) - float(last.scalar_one())


def last_seq(fleet: Fleet, amphora_id: str) -> int:
    """Of its last recorded heartbeat."""
    with fleet.database.read() as conn:
        health = schema.amphora_health.c
        return int(conn.execute(select(health.seq).where(health.amphora_id == amphora_id)).scalar_one())


class Manager:
    """A running health manager, and the amphorae that send to it."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.port = free_port(socket.SOCK_DGRAM)
        self.log = directory / "log"
        self._seq = 0
        pki.init(directory / "certs")
        self._config = directory / "octavia.conf"
        self._config.write_text(
            f"""
            [database]
            connection = {fleet.database.engine.url}
            [controller_worker]
            compute_driver = compute_noop_driver
            network_driver = network_noop_driver
            image_driver = image_noop_driver
            [haproxy_amphora]
            bind_port = {free_port()}
            client_cert = {directory / "certs" / pki.CLIENT}
            server_ca = {directory / "certs" / pki.SERVER_CA}
            [health_manager]
            bind_port = {self.port}
            heartbeat_key = {KEY}
            heartbeat_interval = 0.2
            heartbeat_timeout = {TIMEOUT}
            health_check_interval = 0.2
            [tavia]
            state_dir = {directory}
            """.replace("            ", "")
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def listen(self) -> None:
        """Start it and wait until it hears."""
        self.start()
        eventually(lambda: "Listening for heartbeats" in self.log.read_text(), START_SECONDS)

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more on the same configuration."""
        code = "from tavia.health.service import main; main()"
        with self.log.open("ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", code]
            self._processes.append(
                subprocess.Popen([*command, "--config-file", str(self._config)], stderr=log, stdout=log)
            )
        return self.process

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The last one."""
        return self._processes[-1]

    def close(self) -> None:
        """End all."""
        for process in self._processes:
            process.kill()
            process.wait()

    def hear(self, amphora_id: str, key: str = KEY) -> None:
        self._seq += 1
        short = self.fleet.row(amphora_id).loadbalancer_id[:8]
        pools = {f"pool-{short}:web-{short}": up(**{f"member-{short}": "DOWN"})}
        heartbeat = beat(amphora_id, seq=self._seq, listeners={f"web-{short}": open_listener()}, pools=pools)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(encode(heartbeat, derive_key(key, amphora_id)), ("127.0.0.1", self.port))

    def reload(self, old: str, new: str) -> None:
        """Change its file and send SIGHUP."""
        self._config.write_text(self._config.read_text().replace(old, new))
        self.process.send_signal(signal.SIGHUP)

    def until(self, condition: Callable[[], object], *alive: str) -> None:
        """Wait while these amphorae send heartbeats."""

        def beat_and_look() -> object:
            for amphora_id in alive:
                self.hear(amphora_id)
            return condition()

        eventually(beat_and_look)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


@pytest.fixture
def manager(fleet: Fleet, tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(fleet, tmp_path)) as running:
        running.listen()
        yield running


def test_the_one_that_falls_silent_is_replaced_the_one_that_is_heard_tells_its_statuses(
    fleet: Fleet, manager: Manager
) -> None:
    (heard,), (silent,) = fleet.add(), fleet.add()
    for amphora_id in (heard, silent):
        fleet.change(amphora_id, lb_network_ip="127.0.0.1")
    manager.until(lambda: fleet.loadbalancer(heard).operating_status == "DEGRADED", heard, silent)
    manager.until(lambda: fleet.marked() == [silent], heard)
    assert fleet.journal() == [("automatic-failover", "silent")]


def test_while_the_database_takes_no_writes_nobody_is_called_silent_and_afterwards_it_goes_on_by_itself(
    fleet: Fleet, manager: Manager
) -> None:
    (amphora_id,) = fleet.add()
    fleet.change(amphora_id, lb_network_ip="127.0.0.1")
    manager.until(lambda: fleet.loadbalancer(amphora_id).operating_status == "DEGRADED", amphora_id)
    with sqlite3.connect(str(fleet.database.engine.url.database), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        until = time.monotonic() + 3 * TIMEOUT
        manager.until(lambda: time.monotonic() > until, amphora_id)  # the row looks silent by now
        other.execute("ROLLBACK")
    other.close()
    manager.until(lambda: silent_for(fleet, amphora_id) < TIMEOUT, amphora_id)
    grace_is_over = time.monotonic() + 2 * TIMEOUT
    manager.until(lambda: time.monotonic() > grace_is_over, amphora_id)
    assert fleet.marked() == []
    manager.until(fleet.marked)  # and now it is silent indeed


def test_a_new_heartbeat_key_is_taken_while_it_runs_and_the_earlier_one_still_counts(
    fleet: Fleet, manager: Manager
) -> None:
    (early,), (late,) = fleet.add(), fleet.add()
    manager.until(lambda: last_seq(fleet, early) == last_seq(fleet, late) - 1, early, late)
    manager.reload(f"heartbeat_key = {KEY}", "heartbeat_key = another secret")
    manager.until(lambda: "Configuration reloaded" in manager.log.read_text(), early, late)
    before = last_seq(fleet, early)

    def both_are_recorded() -> bool:
        manager.hear(early)
        manager.hear(late, "another secret")
        return before < last_seq(fleet, early) and before + 2 < last_seq(fleet, late)

    eventually(both_are_recorded)
    assert "another secret" not in manager.log.read_text()


def test_sigterm_ends_it_at_once_without_an_error(manager: Manager) -> None:
    manager.process.send_signal(signal.SIGTERM)
    assert manager.process.wait(timeout=5) == 0
    assert "Traceback" not in manager.log.read_text()


def test_a_taken_port_is_said_in_one_clear_line(manager: Manager) -> None:
    first = manager.process
    try:
        assert manager.start().wait(timeout=20) == 1
    finally:
        first.kill()
        first.wait()
    assert f"[health_manager] bind_ip 127.0.0.1, bind_port {manager.port}: Address already" in manager.log.read_text()
    assert "Traceback" not in manager.log.read_text()
