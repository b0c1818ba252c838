"""Wake-ups over a real RabbitMQ: every worker hears them, and nobody ever waits for RabbitMQ."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from instance import eventually
from oslo_config import cfg
from rabbitmq import RabbitMQ

from tavia import bus, config
from tavia.bus import Wakeups

PATIENCE = 30.0


def machine(directory: Path, name: str, url: str) -> cfg.ConfigOpts:
    """The configuration of one machine, which shares nothing but RabbitMQ with another."""
    path = directory / f"{name}.conf"
    path.write_text(
        f"[DEFAULT]\nhost = {name}\ntransport_url = {url}\n[tavia]\nstate_dir = {directory / name}\n"
        f"[oslo_messaging]\ntopic = {directory.name}\n"
        "[oslo_messaging_rabbit]\nrabbit_interval_max = 1\nrabbit_transient_queues_ttl = 5\n"
    )
    return config.load(["--config-file", str(path)], "tavia-api", [])


def is_woken(wakeups: Wakeups, wait: float) -> float | None:
    """Seconds until a wake-up came; None where ``wait`` seconds passed without."""
    began = time.monotonic()
    wakeups.wait(wait)
    took = time.monotonic() - began
    return took if took < wait else None


def until_woken(wake: Callable[[], None], wakeups: Wakeups) -> None:
    """Both are connected: a wake-up arrives."""

    def heard() -> bool:
        wake()
        return is_woken(wakeups, 0.5) is not None

    eventually(heard, "a wake-up is heard", PATIENCE)
    while is_woken(wakeups, 0.3):
        pass


@contextmanager
def listening(confs: list[cfg.ConfigOpts]) -> Iterator[list[Wakeups]]:
    with ExitStack() as stack:
        made = [bus.wakeups(conf) for conf in confs]
        for wakeups in made:
            stack.callback(wakeups.close)
        yield made


def test_workers_on_all_machines_hear_each_wake_up_at_once(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    confs = [machine(tmp_path, name, rabbitmq.url) for name in ("ctl-1", "ctl-2", "ctl-3")]
    wake = bus.waker(machine(tmp_path, "api", rabbitmq.url))
    with listening(confs) as workers:
        for worker in workers:
            until_woken(wake, worker)
        for worker in workers:
            while is_woken(worker, 0.3):
                pass
        wake()
        took = [is_woken(worker, PATIENCE) for worker in workers]
        assert None not in took
        print("milliseconds until each worker heard:", [round(1000 * (seconds or 0), 1) for seconds in took])


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_after_a_restart_of_rabbitmq_wake_ups_are_heard_again(
    rabbitmq: RabbitMQ, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    conf = machine(tmp_path, "ctl-1", rabbitmq.url)
    wake = bus.waker(conf)
    with listening([conf]) as (worker,), caplog.at_level(logging.WARNING, "tavia"):
        until_woken(wake, worker)
        getattr(rabbitmq, how)()
        began = time.monotonic()
        for _ in range(1000):
            wake()
        assert time.monotonic() - began < 5.0
        eventually(lambda: "takes no wake-ups" in caplog.text, "the outage is said", PATIENCE)
        assert is_woken(worker, 0.2) is None
        rabbitmq.start()
        until_woken(wake, worker)
    said = [record.getMessage() for record in caplog.records if record.name == "tavia.bus.outbox"]
    assert len(said) == 2, said
    assert "again" in said[1]
    assert rabbitmq.password not in caplog.text


def test_a_paused_rabbitmq_keeps_nobody_and_afterwards_all_goes_on(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    conf = machine(tmp_path, "ctl-1", rabbitmq.url)
    wake = bus.waker(conf)
    with listening([conf]) as (worker,):
        until_woken(wake, worker)
        rabbitmq.pause()
        began = time.monotonic()
        for _ in range(1000):
            wake()
        assert time.monotonic() - began < 5.0
        assert is_woken(worker, 0.5) is None
        rabbitmq.resume()
        assert is_woken(worker, PATIENCE) is not None
        rabbitmq.pause()
        began = time.monotonic()
        worker.close()
        assert time.monotonic() - began < 10.0
        rabbitmq.resume()


def test_a_rabbitmq_that_comes_after_the_services_is_used_then(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    rabbitmq.kill()
    conf = machine(tmp_path, "ctl-1", rabbitmq.url)
    wake = bus.waker(conf)
    with listening([conf]) as (worker,):
        wake()
        assert is_woken(worker, 0.2) is None
        rabbitmq.start()
        until_woken(wake, worker)


def test_nothing_waits_in_rabbitmq_for_workers_that_are_gone(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    conf = machine(tmp_path, "ctl-1", rabbitmq.url)
    wake = bus.waker(conf)
    wake()
    with listening([conf]) as (worker,):
        until_woken(wake, worker)
        assert _fanout_queues(rabbitmq, tmp_path.name)
    eventually(lambda: not _fanout_queues(rabbitmq, tmp_path.name), "the worker's queue is gone", PATIENCE)
    wake()
    mine = {name: messages for name, messages in rabbitmq.queues().items() if name.startswith(tmp_path.name)}
    assert mine == {f"{tmp_path.name}_wake": 0, f"{tmp_path.name}_wake.all": 0}


def _fanout_queues(rabbitmq: RabbitMQ, topic: str) -> list[str]:
    return [name for name in rabbitmq.queues() if name.startswith(f"{topic}_wake_fanout")]
