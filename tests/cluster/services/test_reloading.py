"""SIGHUP on live processes: every mutable option takes effect where it is used, and no request is lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import slow_cloud
from controllers import NOOP, Controllers, Service, controllers, merged
from instance import eventually
from ports import free_port
from slow_cloud import SlowCloud
from sqlalchemy import select

from tavia.api.server import PROCESSES
from tavia.cli.api_client import ApiClient
from tavia.store import schema
from tavia.store.engine import create_engine


@pytest.fixture
def stand(tmp_path: Path, connection: str) -> Iterator[Controllers]:
    with controllers(tmp_path, connection, apis=1, workers=0) as made:
        yield made


HANGS_UP_AT_BIRTH = """
import os, signal, sys
from tavia.api import server, service

class Server(server.Server):
    def load_config(self):
        super().load_config()
        self.cfg.set("post_fork", lambda arbiter, child: os.kill(os.getpid(), signal.SIGHUP))

server.Server = Server
service.main(sys.argv[2:])
"""
"""tavia-api, whose children are sent SIGHUP before they can have done anything."""


def topology(stand: Controllers, loadbalancer_id: str) -> str:
    engine = create_engine(stand.connection)
    with engine.connect() as conn:
        row = schema.load_balancer.c
        found: str = conn.execute(select(row.topology).where(row.id == loadbalancer_id)).scalar_one()
    engine.dispose()
    return found


def test_the_api_takes_new_values_without_losing_a_request(stand: Controllers) -> None:
    (api,) = stand.named("tavia-api")
    assert topology(stand, stand.create_tree()["id"]) == "SINGLE"
    over = threading.Event()
    answered, lost = [0], []

    def ask() -> None:
        client = ApiClient(stand.url(api))
        while not over.is_set():
            try:
                client.call("GET", "/lbaas/loadbalancers?limit=1")
                answered[0] += 1
            except Exception as error:
                lost.append(error)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for loadbalancer_topology in ("ACTIVE_STANDBY", "SINGLE", "ACTIVE_STANDBY"):
            api.reload({"controller_worker": {"loadbalancer_topology": loadbalancer_topology}})
        enough = answered[0] + 20
        eventually(lambda: answered[0] > enough, "requests go on")
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert lost == []
    for _ in range(4):  # whichever child answers
        assert topology(stand, stand.create_tree()["id"]) == "ACTIVE_STANDBY"


def test_a_wrong_value_is_refused_and_the_service_goes_on_as_it_was(stand: Controllers) -> None:
    (api,) = stand.named("tavia-api")
    api.configure({"controller_worker": {"loadbalancer_topology": "TRIPLE"}})
    api.hang_up()
    eventually(lambda: api.log.read_text().count("not reloaded") == 3, "all its processes refuse")
    assert "[controller_worker] loadbalancer_topology" in api.log.read_text()
    assert topology(stand, stand.create_tree()["id"]) == "SINGLE"


def test_amphorae_that_boot_after_a_reload_get_the_new_heartbeat_options(stand: Controllers, tmp_path: Path) -> None:
    with slow_cloud.slow_cloud(tmp_path) as cloud:
        worker = stand.add_worker(slow_cloud.SETTINGS)
        before = agent_config_of_a_new_one(stand, cloud)
        options = {"controller_ip_port_list": "192.0.2.77:5999", "heartbeat_interval": "3.5", "heartbeat_key": "other"}
        worker.reload({"health_manager": options})
        after = agent_config_of_a_new_one(stand, cloud)
    assert "192.0.2.77:5999" in after
    assert "192.0.2.77:5999" not in before
    assert "3.5" in after
    assert key_line(after) != key_line(before)
    assert "other" not in worker.log.read_text()
    worker.kill()


def agent_config_of_a_new_one(stand: Controllers, cloud: SlowCloud) -> str:
    known = len(cloud.boots)
    stand.create_tree()
    eventually(lambda: len(cloud.boots) > known, "a boot is asked for")
    return cloud.agent_config()


def key_line(agent_config: str) -> str:
    """The line with the key, which is derived from the secret and the amphora's id."""
    return next(line for line in agent_config.splitlines() if "heartbeat_key" in line)


def test_debug_begins_and_ends_while_it_runs(stand: Controllers) -> None:
    (api,) = stand.named("tavia-api")
    assert debug_lines(api) == 0
    api.reload({"DEFAULT": {"debug": "true"}})
    while_on = debug_lines(api)
    assert while_on > 100
    api.reload({"DEFAULT": {"debug": "false"}})
    assert debug_lines(api) == while_on


def debug_lines(service: Service) -> int:
    return service.log.read_text().count(" DEBUG ")


def test_a_child_that_is_just_born_reloads_too(tmp_path: Path, connection: str) -> None:
    settings = merged(
        NOOP,
        {"database": {"connection": connection}, "api_settings": {"bind_port": str(free_port())}},
    )
    api = Service("tavia-api", "tavia-api-1", tmp_path, settings, enter=(sys.executable, "-c", HANGS_UP_AT_BIRTH))
    api.start()
    try:
        eventually(lambda: api.log.read_text().count("Configuration reloaded") == PROCESSES, "both children reloaded")
        assert api.stop() == 0
    finally:
        api.close()
