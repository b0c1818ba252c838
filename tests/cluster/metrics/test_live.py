"""What the four services, as real processes, show to Prometheus."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
import urllib3
from controllers import ADDRESS, Controllers, controllers
from instance import eventually
from scraping import SERVICES, Ports, metrics_ports, options, scrape, total


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_its_release(stand: Controllers, ports: Ports, service: str) -> None:
    build = scrape(ports[service])["tavia_build_info"].samples
    assert [(s.labels["service"], s.value) for s in build] == [(service, 1.0)]


def test_requests_are_counted_by_route_and_never_by_path(stand: Controllers, ports: Ports) -> None:
    def shown() -> float:
        family = scrape(ports["tavia-api"])["tavia_api_requests"]
        route = {"route": "/v2/lbaas/loadbalancers/{loadbalancer_id}", "method": "GET", "status": "404"}
        return total(family, "tavia_api_requests_total", **route)

    before = shown()
    missing = "/lbaas/loadbalancers/5f8a9c56-93a5-4f0f-8d2c-0c8b3f0d6a11"
    for prefix in ("/v2.0", "/v2"):
        urllib3.request("GET", f"{stand.url(stand.named('tavia-api')[0])}{prefix}{missing}", retries=False)
    assert shown() == before + 2
    for family in scrape(ports["tavia-api"]).values():
        assert not any("5f8a9c56" in value for s in family.samples for value in s.labels.values())


def test_wake_ups_are_counted_where_they_leave_and_where_they_are_heard(stand: Controllers, ports: Ports) -> None:
    (made,) = stand.api.call("GET", "/lbaas/loadbalancers")["loadbalancers"]

    def heard() -> bool:
        stand.api.call("PUT", f"/lbaas/loadbalancers/{made['id']}", {"loadbalancer": {"name": "woken"}})
        sent = total(
            scrape(ports["tavia-api"])["tavia_bus_messages"],
            "tavia_bus_messages_total",
            kind="wake-ups",
            outcome="sent",
        )
        return sent > 0 < total(scrape(ports["tavia-worker"])["tavia_wake_ups_heard"], "tavia_wake_ups_heard_total")

    eventually(heard, "the worker hears of a change")


def test_what_the_apis_processes_count_adds_up(stand: Controllers, ports: Ports) -> None:
    def answered() -> float:
        family = scrape(ports["tavia-api"])["tavia_api_requests"]
        return total(family, "tavia_api_requests_total", route="/v2/lbaas/pools", method="GET", status="200")

    before, asked = answered(), 60
    urls = [f"{stand.url(stand.named('tavia-api')[0])}/v2/lbaas/pools"] * asked
    for url in urls:  # a connection each, so that both processes get some
        assert urllib3.PoolManager().request("GET", url, headers={"Connection": "close"}).status == 200
    assert answered() == before + asked
    progress = scrape(ports["tavia-api"])["tavia_api_requests_in_progress"]
    assert [(s.labels, s.value) for s in progress.samples] == [({}, 0.0)]


def test_a_process_of_the_api_that_dies_takes_no_count_with_it(stand: Controllers, ports: Ports) -> None:
    api = stand.named("tavia-api")[0]
    children = Path(f"/proc/{api.pid}/task/{api.pid}/children")

    def counted() -> float:
        return total(scrape(ports["tavia-api"])["tavia_api_requests"], "tavia_api_requests_total")

    before, old = counted(), children.read_text().split()
    os.kill(int(old[0]), signal.SIGKILL)
    eventually(lambda: len(set(children.read_text().split()) - set(old)) == 1, "another process is there")
    assert counted() == before > 0


def test_the_apis_port_for_metrics_goes_with_the_process_that_answers_there(stand: Controllers, ports: Ports) -> None:
    """Its children live on for as long as a client keeps them busy; the next service needs the port at once."""
    api = stand.named("tavia-api")[0]
    children = psutil.Process(api.pid).children()
    listening = {connection.laddr.port for child in children for connection in child.net_connections("tcp")}
    assert int(stand.url(api).rpartition(":")[2]) in listening
    assert ports["tavia-api"] not in listening


def test_the_worker_counts_what_it_did(stand: Controllers, ports: Ports) -> None:
    found = scrape(ports["tavia-worker"])
    assert total(found["tavia_change_seconds"], "tavia_change_seconds_count", what="create") == 1
    assert total(found["tavia_step_seconds"], "tavia_step_seconds_count", step="push-bundle", outcome="done") >= 1
    assert total(found["tavia_cloud_call_seconds"], "tavia_cloud_call_seconds_count", face="compute", call="boot") == 1
    assert total(found["tavia_database_transactions"], "tavia_database_transactions_total", outcome="committed") > 5
    assert found["tavia_worker_threads"].samples[0].value == 8


def test_the_apis_files_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    ports = metrics_ports()
    with controllers(
        tmp_path, f"sqlite:///{tmp_path / 'tavia.sqlite'}", workers=0, settings={"tavia": options(ports)}
    ) as made:
        (directory,) = (tmp_path / "temporary").glob("tavia-metrics-*")
        assert directory.stat().st_mode & 0o077 == 0
        assert made.services[0].stop() == 0
        assert not directory.exists()


def test_a_taken_port_stops_a_service_and_is_named(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"tavia": {"worker_metrics_port": str(port)}}
        database = f"sqlite:///{tmp_path / 'tavia.sqlite'}"
        with controllers(tmp_path, database, apis=0, workers=1, settings=settings) as made:
            worker = made.services[0]
            eventually(lambda: not worker.running, "the worker ended")
            assert f"[tavia] metrics_bind_host {ADDRESS}, worker_metrics_port {port}" in worker.log.read_text()
