"""Wake-ups and notifications over a real RabbitMQ; without it nothing waits but a change for the next poll."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from controllers import Controllers, Service, controllers
from instance import eventually
from oslo_config import cfg
from rabbitmq import RabbitMQ

from tavia import config
from tavia.bus import Wakeups, waker, wakeups
from tavia.bus.transport import notification_transport

FAR = 12.0
"""Seconds between polls: what comes sooner was woken."""


def conf_of(rabbitmq: RabbitMQ, tmp_path: Path, more: str = "") -> cfg.ConfigOpts:
    file = tmp_path / "octavia.conf"
    file.write_text(
        f"[DEFAULT]\ntransport_url = {rabbitmq.url}\n[database]\nconnection = sqlite://\n"
        f"[health_manager]\nheartbeat_key = k\n{more}"
    )
    return config.load(["--config-file", str(file)], "tavia-worker")


def is_woken(worker: Wakeups, seconds: float) -> bool:
    """Whether a wake-up came before the time was over."""
    began = time.monotonic()
    worker.wait(seconds)
    return time.monotonic() - began < 0.9 * seconds


def listens(worker: Service) -> bool:
    return "Listening for wake-ups" in worker.log.read_text()


@pytest.fixture
def stand(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Controllers]:
    """Two workers that poll seldom; no datagram reaches them."""
    settings = {
        "tavia": {"poll_interval": str(FAR), "state_dir": str(tmp_path / "api")},
        "oslo_messaging_notifications": {"driver": "messagingv2"},
    }
    url = f"sqlite:///{tmp_path / 'tavia.sqlite'}"
    with controllers(tmp_path, url, workers=0, transport_url=rabbitmq.url, settings=settings) as made:
        for number in range(2):
            elsewhere = {"tavia": {"state_dir": str(tmp_path / f"machine-{number}"), "poll_interval": str(FAR)}}
            eventually(partial(listens, made.add_worker(elsewhere)), "the worker listens")
        yield made


def hears(worker: Wakeups, wake: Callable[[], None]) -> bool:
    wake()
    return is_woken(worker, 1.0)


def test_every_worker_hears_a_wake_up_whatever_machine_it_is_on(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    conf = conf_of(rabbitmq, tmp_path)
    workers, wake = [wakeups(conf) for _ in range(3)], waker(conf)
    try:
        for worker in workers:
            eventually(partial(hears, worker, wake), "the worker listens")
        for worker in workers:
            while is_woken(worker, 1.0):
                pass
        wake()
        assert [is_woken(worker, FAR) for worker in workers] == [True] * 3
    finally:
        for worker in workers:
            worker.close()


def test_wake_ups_go_on_after_rabbitmq_was_killed_and_came_back(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    conf = conf_of(rabbitmq, tmp_path)
    worker, wake = wakeups(conf), waker(conf)
    try:
        eventually(partial(hears, worker, wake), "a wake-up is heard")
        rabbitmq.kill()
        wake()
        rabbitmq.start()
        eventually(partial(hears, worker, wake), "a wake-up is heard again")
    finally:
        worker.close()


def test_a_burst_is_a_few_messages(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    conf = conf_of(rabbitmq, tmp_path)
    worker, wake = wakeups(conf), waker(conf)
    woken = 0
    try:
        eventually(partial(hears, worker, wake), "the worker listens")
        began = time.monotonic()
        for _ in range(1000):
            wake()
        assert time.monotonic() - began < 1.0, "it waited for RabbitMQ"
        while is_woken(worker, 1.0):
            woken += 1
        assert 1 <= woken < 100
    finally:
        worker.close()


def test_a_change_is_applied_at_once_though_polls_are_far_apart(stand: Controllers) -> None:
    began = time.monotonic()
    made = stand.create_tree()
    stand.await_active(made["id"])
    assert time.monotonic() - began < FAR / 2


def test_with_rabbitmq_silent_the_api_answers_and_a_worker_finds_the_change_at_its_next_poll(
    stand: Controllers, rabbitmq: RabbitMQ
) -> None:
    stand.await_active(stand.create_tree("before")["id"])
    rabbitmq.pause()
    began = time.monotonic()
    made = [stand.create_tree(f"paused-{number}") for number in range(10)]
    assert time.monotonic() - began < FAR / 3, "ten requests waited for RabbitMQ"
    for one in made:
        stand.await_active(one["id"], 2 * FAR)
    for worker in stand.named("tavia-worker"):
        assert worker.stop() == 0, "it ends in order though RabbitMQ is silent"


@contextmanager
def listening(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[queue.Queue[tuple[str, dict[str, Any]]]]:
    """What comes to ``notifications.info``: event type and payload."""
    heard: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()

    class Endpoint:
        def info(self, _context: Any, _publisher: str, event: str, payload: dict[str, Any], _meta: Any) -> None:
            heard.put((event, payload))

    transport = notification_transport(conf_of(rabbitmq, tmp_path))
    target = oslo_messaging.Target(topic="notifications")  # type: ignore[no-untyped-call]
    listener = oslo_messaging.get_notification_listener(  # type: ignore[no-untyped-call]
        transport, [target], [Endpoint()], executor="threading"
    )
    listener.start()
    try:
        yield heard
    finally:
        listener.stop()
        listener.wait()


def said_of(loadbalancer_id: str, heard: queue.Queue[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """The next one about it; notifications of other tests may still wait in the queue."""
    while True:
        event, payload = heard.get(timeout=FAR)
        if payload["loadbalancer_id"] == loadbalancer_id:
            return event, payload


def test_who_listens_hears_of_each_change_with_octavias_event_types(
    stand: Controllers, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    (tmp_path / "listener").mkdir()
    with listening(rabbitmq, tmp_path / "listener") as heard:
        made = stand.create_tree("billed")
        lb_id = made["id"]
        stand.await_active(lb_id)
        assert said_of(lb_id, heard)[0] == "octavia.loadbalancer.create.end"
        stand.api.call("PUT", f"/lbaas/loadbalancers/{lb_id}", {"loadbalancer": {"name": "renamed"}})
        event, payload = said_of(lb_id, heard)
        assert (event, payload["name"]) == ("octavia.loadbalancer.update.end", "renamed")
        assert payload["vip_address"] == made["vip_address"]
        stand.api.call("DELETE", f"/lbaas/loadbalancers/{lb_id}?cascade=true")
        assert said_of(lb_id, heard)[0] == "octavia.loadbalancer.delete.end"
