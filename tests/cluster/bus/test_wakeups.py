"""Changes are picked up by wake-ups; without RabbitMQ nothing waits but a change for the next poll."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from controllers import Controllers, Service, controllers
from instance import eventually
from oslo_config import cfg
from rabbitmq import RabbitMQ

from tavia import config
from tavia.bus import Wakeups, waker, wakeups

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
