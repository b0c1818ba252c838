"""The services as processes with a real RabbitMQ: who listens is notified, and nobody waits for RabbitMQ."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from controllers import SUBNET, Controllers, controllers
from instance import eventually
from oslo_config import cfg
from rabbitmq import RabbitMQ

from tavia import config
from tavia.bus.transport import notification_transport


def settings(topic: str, **tavia: str) -> dict[str, dict[str, str]]:
    return {
        "oslo_messaging": {"topic": topic},
        "oslo_messaging_notifications": {"driver": "messagingv2", "topics": topic},
        "oslo_messaging_rabbit": {"rabbit_interval_max": "1"},
        "tavia": tavia,
    }


@pytest.fixture
def stand(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Controllers]:
    database = f"sqlite:///{tmp_path / 'tavia.sqlite'}"
    own = settings(tmp_path.name)
    with controllers(tmp_path, database, workers=0, transport_url=rabbitmq.url, settings=own) as made:
        yield made


def test_requests_take_as_long_with_rabbitmq_silent_or_dead(rabbitmq: RabbitMQ, stand: Controllers) -> None:
    made = stand.create_tree()["id"]
    _seconds(stand, made)
    running = _seconds(stand, made)
    rabbitmq.pause()
    silent = _seconds(stand, made)
    stand.add_worker()  # which starts against a RabbitMQ that takes connections and says nothing, and polls
    stand.await_active(made)
    rabbitmq.resume()
    rabbitmq.kill()
    dead = _seconds(stand, made)
    stand.await_active(made)
    rabbitmq.start()
    print("milliseconds a change: " + ", ".join(f"{1000 * s:.1f}" for s in (running, silent, dead)))
    assert max(silent, dead) < 5 * running + 0.05
    (worker,) = stand.named("tavia-worker")
    rabbitmq.pause()
    assert worker.stop() == 0
    log = "".join(service.log.read_text() for service in stand.services)
    assert rabbitmq.password not in log
    assert len(re.findall("takes no wake-ups", log)) <= 4, log  # two processes of the API, two outages
    assert "eventlet" not in log.lower()


def test_others_are_notified_of_a_load_balancers_life(rabbitmq: RabbitMQ, stand: Controllers, tmp_path: Path) -> None:
    stand.add_worker()
    with _Listener(rabbitmq, tmp_path) as heard:
        made = stand.create_tree("web")["id"]
        stand.await_active(made)
        eventually(lambda: len(heard) >= 1, "create.end")
        stand.api.call("PUT", f"/lbaas/loadbalancers/{made}", {"loadbalancer": {"description": "now with one"}})
        stand.await_active(made)
        eventually(lambda: len(heard) >= 2, "update.end")
        stand.api.call("PUT", f"/lbaas/loadbalancers/{made}/failover")
        eventually(lambda: len(heard) >= 3, "update.end after the failover", 60.0)
        stand.await_active(made)
        stand.api.call("DELETE", f"/lbaas/loadbalancers/{made}?cascade=true")
        stand.await_gone(made)
        eventually(lambda: len(heard) >= 4, "delete.end")
    assert [said["event_type"] for said in heard] == [
        "octavia.loadbalancer.create.end",
        "octavia.loadbalancer.update.end",
        "octavia.loadbalancer.update.end",
        "octavia.loadbalancer.delete.end",
    ]
    assert {said["publisher_id"] for said in heard} == {"octavia-worker.tavia-worker-1"}
    assert {said["payload"]["loadbalancer_id"] for said in heard} == {made}
    created, updated = heard[0]["payload"], heard[1]["payload"]
    assert (created["name"], created["vip_subnet_id"], created["description"]) == ("web", SUBNET, "")
    assert updated["description"] == "now with one"
    assert heard[0]["project_id"] == created["project_id"]


def test_event_notifications_off_is_off_and_a_dead_rabbitmq_holds_no_convergence(
    rabbitmq: RabbitMQ, stand: Controllers, tmp_path: Path
) -> None:
    silent = stand.add_worker({"controller_worker": {"event_notifications": "false"}})
    with _Listener(rabbitmq, tmp_path) as heard:
        stand.await_active(stand.create_tree("unheard")["id"])
        assert silent.stop() == 0
        stand.add_worker()
        rabbitmq.kill()
        while_dead = stand.create_tree("while dead")["id"]
        stand.await_active(while_dead)
        rabbitmq.start()
        eventually(lambda: len(heard) >= 1, "what was kept is sent", 60.0)
    assert [said["payload"]["name"] for said in heard] == ["while dead"]


def _seconds(stand: Controllers, loadbalancer_id: str) -> float:
    """What a change takes in the middle of 40."""
    taken = []
    for number in range(40):
        began = time.monotonic()
        body = {"loadbalancer": {"description": f"{number}"}}
        stand.api.call("PUT", f"/lbaas/loadbalancers/{loadbalancer_id}", body)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


class _Listener:
    """As Ceilometer listens; a list of what came."""

    def __init__(self, rabbitmq: RabbitMQ, directory: Path) -> None:
        self.heard: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        path = directory / "listener.conf"
        path.write_text(
            f"[DEFAULT]\ntransport_url = {rabbitmq.url}\n[oslo_messaging_rabbit]\nrabbit_interval_max = 1\n"
        )
        conf: cfg.ConfigOpts = config.load(["--config-file", str(path)], "listener", [])
        target = oslo_messaging.Target(topic=directory.name)  # type: ignore[no-untyped-call]
        self._server = oslo_messaging.get_notification_listener(  # type: ignore[no-untyped-call]
            notification_transport(conf), [target], [self], executor="threading"
        )

    def info(
        self, ctxt: dict[str, Any], publisher_id: str, event_type: str, payload: dict[str, Any], _metadata: object
    ) -> None:
        """A notification came."""
        with self._lock:
            self.heard.append(
                {
                    "project_id": ctxt.get("project_id"),
                    "publisher_id": publisher_id,
                    "event_type": event_type,
                    "payload": payload,
                }
            )

    def __enter__(self) -> list[dict[str, Any]]:
        self._server.start()
        return self.heard

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._server.wait()
