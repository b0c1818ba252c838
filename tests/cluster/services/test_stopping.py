"""SIGTERM: what is under way is finished or handed over in time; after that a service ends, whatever hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import slow_cloud
from controllers import Controllers, controllers
from instance import eventually
from mariadb import MariaDb
from slow_cloud import SlowCloud
from sqlalchemy import select

from tavia.cli.api_client import ApiClient
from tavia.model.seams import SeamError
from tavia.store import schema
from tavia.store.database import Database
from tavia.store.engine import create_engine

TIMEOUT = 3
PATIENT = 10
"""Where all but what hangs has to be through in time, on a machine that is busy too."""
SETTINGS = {"DEFAULT": {"graceful_shutdown_timeout": str(TIMEOUT)}}


@pytest.fixture
def stand(tmp_path: Path, connection: str) -> Iterator[Controllers]:
    with controllers(tmp_path, connection, apis=1, workers=0, settings=SETTINGS) as made:
        yield made


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SlowCloud]:
    with slow_cloud.slow_cloud(tmp_path) as made:
        yield made


def begin_a_step_that_takes_long(stand: Controllers, cloud: SlowCloud) -> str:
    """A worker that waits for a server's boot; returns the load balancer's id."""
    stand.add_worker(slow_cloud.SETTINGS)
    loadbalancer_id: str = stand.create_tree()["id"]
    eventually(lambda: cloud.boots, "the boot is asked for")
    return loadbalancer_id


def state_of_the_operation(stand: Controllers, loadbalancer_id: str) -> tuple[str, bool]:
    """The newest operation's state, and whether anyone holds the lease."""
    operation, lease = schema.operation.c, schema.lease.c
    engine = create_engine(stand.connection)
    with Database(engine, engine, engine).read() as conn:
        mine = select(operation.state).where(operation.loadbalancer_id == loadbalancer_id)
        state = conn.execute(mine.order_by(operation.started.desc()).limit(1)).scalar_one()
        owner = conn.execute(select(lease.owner).where(lease.loadbalancer_id == loadbalancer_id)).scalar_one()
    engine.dispose()
    return state, bool(owner)


def test_a_worker_finishes_its_step_and_hands_over(stand: Controllers, cloud: SlowCloud) -> None:
    loadbalancer_id = begin_a_step_that_takes_long(stand, cloud)
    (worker,) = stand.named("tavia-worker")
    worker.tell_to_stop()
    threading.Timer(1.0, cloud.go_on.set).start()
    assert worker.wait() == 0
    assert state_of_the_operation(stand, loadbalancer_id) == ("handed-over", False)


def test_a_worker_whose_step_hangs_ends_by_itself_and_says_what_it_left(stand: Controllers, cloud: SlowCloud) -> None:
    loadbalancer_id = begin_a_step_that_takes_long(stand, cloud)
    (worker,) = stand.named("tavia-worker")
    began = time.monotonic()
    worker.tell_to_stop()
    assert worker.wait() == 1
    assert TIMEOUT <= time.monotonic() - began < TIMEOUT + 3
    assert f"left: load balancer {loadbalancer_id}" in worker.log.read_text()


def test_the_time_may_be_shortened_while_it_stops(stand: Controllers, cloud: SlowCloud) -> None:
    begin_a_step_that_takes_long(stand, cloud)
    (worker,) = stand.named("tavia-worker")
    worker.configure({"DEFAULT": {"graceful_shutdown_timeout": "600"}})
    worker.hang_up()
    eventually(lambda: "from 3 to 600" in worker.log.read_text(), "it has taken the new value")
    worker.tell_to_stop()
    eventually(lambda: "stopping, within 600 s" in worker.log.read_text(), "it stops")
    worker.configure({"DEFAULT": {"graceful_shutdown_timeout": "1"}})
    worker.hang_up()
    assert worker.wait() == 1


def test_a_second_signal_ends_it_at_once(stand: Controllers, cloud: SlowCloud) -> None:
    begin_a_step_that_takes_long(stand, cloud)
    (worker,) = stand.named("tavia-worker")
    worker.tell_to_stop()
    eventually(lambda: "SIGTERM: stopping" in worker.log.read_text(), "it stops")
    began = time.monotonic()
    worker.tell_to_stop()
    assert worker.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < TIMEOUT - 1


def test_services_end_in_time_while_the_database_hangs(stand: Controllers, mariadb: MariaDb) -> None:
    stand.add_worker()
    stand.add_health_manager()
    stand.add_housekeeping({"house_keeping": {"cleanup_interval": "1"}})
    eventually(lambda: all(_listed(stand)), "all have started")
    stand.named("tavia-api")[0].reload({"DEFAULT": {"graceful_shutdown_timeout": str(PATIENT)}})
    api = ApiClient(stand.url(stand.named("tavia-api")[0]))
    mariadb.pause()
    try:
        threading.Thread(target=_ask, args=(api,), daemon=True).start()
        time.sleep(1.5)  # until each has a statement under way; how it went does not matter to what is asserted
        began = time.monotonic()
        for service in stand.services:
            service.tell_to_stop()
        codes = {service.name: service.wait(30) for service in stand.services}
        assert time.monotonic() - began < PATIENT + 8
    finally:
        mariadb.resume()
    assert codes["tavia-worker-1"] == 1
    assert codes["tavia-api-1"] == 1
    assert "left: requests of 1 processes" in stand.named("tavia-api")[0].log.read_text()


def test_the_api_answers_what_was_asked_before_it_was_told_to_stop(stand: Controllers, mariadb: MariaDb) -> None:
    (service,) = stand.named("tavia-api")
    service.reload({"DEFAULT": {"graceful_shutdown_timeout": str(PATIENT)}})
    answers: list[object] = []
    database = stand.connection.rsplit("/", 1)[1].split("?")[0]
    asking = threading.Thread(target=lambda: answers.append(stand.api.call("GET", "/lbaas/loadbalancers")))
    with mariadb.connect(database) as cursor:
        cursor.execute("LOCK TABLES load_balancer WRITE")
        asking.start()
        eventually(
            lambda: mariadb.sql("SELECT 1 FROM information_schema.processlist WHERE state LIKE '%lock%'"), "it waits"
        )
        service.tell_to_stop()
        eventually(lambda: "Handling signal: term" in service.log.read_text(), "it stops")
        assert service.running
        cursor.execute("UNLOCK TABLES")
    asking.join()
    assert answers == [{"loadbalancers": [], "loadbalancers_links": []}]
    assert service.wait() == 0


def test_an_api_whose_arbiter_was_killed_leaves_its_port_while_it_answers(stand: Controllers, mariadb: MariaDb) -> None:
    (service,) = stand.named("tavia-api")
    answers: list[object] = []
    database = stand.connection.rsplit("/", 1)[1].split("?")[0]
    asking = threading.Thread(target=lambda: answers.append(stand.api.call("GET", "/lbaas/loadbalancers")))
    with mariadb.connect(database) as cursor:
        cursor.execute("LOCK TABLES load_balancer WRITE")
        asking.start()
        waiting = "SELECT 1 FROM information_schema.processlist WHERE state LIKE '%lock%'"
        eventually(lambda: mariadb.sql(waiting), "it waits")
        os.kill(service.pid, signal.SIGKILL)
        service.wait()
        service.start()
        eventually(lambda: service.log.read_text().count("Listening at") == 2, "the next one listens", 10)
        cursor.execute("UNLOCK TABLES")
    asking.join()
    assert answers == [{"loadbalancers": [], "loadbalancers_links": []}]


def test_a_busy_connection_does_not_keep_a_child_whose_arbiter_was_killed(stand: Controllers) -> None:
    (service,) = stand.named("tavia-api")
    children = psutil.Process(service.pid).children()
    os.kill(service.pid, signal.SIGKILL)
    service.wait()

    def gone() -> bool:
        with suppress(SeamError):
            stand.api.call("GET", "/lbaas/loadbalancers")
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    eventually(gone, "no child is left", 15)


def _listed(stand: Controllers) -> list[bool]:
    engine = create_engine(stand.connection)
    with engine.connect() as conn:
        hosts = set(conn.execute(select(schema.service.c.host)).scalars())
    engine.dispose()
    return [service.name in hosts for service in stand.services]


def _ask(api: ApiClient) -> None:
    with suppress(SeamError):
        api.call("GET", "/lbaas/loadbalancers")
