"""octavia.conf says what carries wake-ups and notifications."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from oslo_config import cfg

from tavia import bus, config
from tavia.bus.events import Event
from tavia.bus.notifications import Announcer, payload
from tavia.bus.wake import Datagrams, NoWakeups
from tavia.model.resources import LoadBalancer
from tavia.model.seams import SeamError
from tavia.store.clock import utcnow

NOBODY_THERE = "rabbit://octavia:hunter2@127.0.0.1:1/"


def load(directory: Path, *lines: str) -> cfg.ConfigOpts:
    path = directory / "octavia.conf"
    path.write_text("\n".join(lines))
    return config.load(["--config-file", str(path)], "tavia-api", [])


def test_without_a_transport_url_datagrams_wake_the_workers_of_this_machine(tmp_path: Path) -> None:
    conf = load(tmp_path, "[tavia]", f"state_dir = {tmp_path}")
    wakeups = bus.wakeups(conf)
    assert isinstance(wakeups, Datagrams)
    threading.Timer(0.05, bus.waker(conf)).start()
    wakeups.wait(30.0)
    wakeups.close()


def test_without_both_workers_poll(tmp_path: Path) -> None:
    conf = load(tmp_path)
    wakeups = bus.wakeups(conf)
    assert isinstance(wakeups, NoWakeups)
    bus.waker(conf)()
    wakeups.wait(0.01)
    wakeups.close()


def test_an_operators_options_of_oslo_messaging_are_known_and_ours_are_only_defaults(tmp_path: Path) -> None:
    conf = load(
        tmp_path,
        "[DEFAULT]",
        f"transport_url = {NOBODY_THERE}",
        "rpc_response_timeout = 30",
        "[oslo_messaging]",
        "topic = here",
        "[oslo_messaging_rabbit]",
        "rabbit_interval_max = 7",
        "heartbeat_in_pthread = true",
        "[oslo_messaging_notifications]",
        "driver = messagingv2",
        "topics = notifications,billing",
    )
    assert conf.oslo_messaging_rabbit.rabbit_interval_max == 7
    assert conf.oslo_messaging_rabbit.rabbit_transient_queues_ttl == 60
    assert conf.control_exchange == "octavia"
    assert conf.oslo_messaging_notifications.topics == ["notifications", "billing"]
    assert config.unused_options(conf) == ["[oslo_messaging_rabbit] heartbeat_in_pthread"]


@pytest.mark.parametrize(
    "url", ["hunter2", "carrier-pigeon://octavia:hunter2@127.0.0.1/", "rabbit://octavia:hunter2@x:y/"]
)
def test_a_transport_url_of_no_use_is_refused_at_the_start_without_its_password(tmp_path: Path, url: str) -> None:
    conf = load(tmp_path, "[DEFAULT]", f"transport_url = {url}")
    for make in (bus.waker, bus.wakeups):
        with pytest.raises(SeamError, match=r"\[DEFAULT\] transport_url") as refusal:
            make(conf)
        assert "hunter2" not in str(refusal.value)
        assert refusal.value.__cause__ is None and refusal.value.__context__ is None


def test_notifications_are_sent_where_a_driver_is_named_and_event_notifications_is_on(tmp_path: Path) -> None:
    url = ("[DEFAULT]", f"transport_url = {NOBODY_THERE}")
    driver = ("[oslo_messaging_notifications]", "driver = messagingv2")
    off = ("[controller_worker]", "event_notifications = false")
    assert isinstance(bus.announcer(load(tmp_path, *url, *driver)), Announcer)
    assert not isinstance(bus.announcer(load(tmp_path, *url)), Announcer)
    assert not isinstance(bus.announcer(load(tmp_path, *url, *driver, *off)), Announcer)
    assert not isinstance(bus.announcer(load(tmp_path)), Announcer)


def test_a_notification_says_what_octavia_says_of_a_load_balancer() -> None:
    loadbalancer = LoadBalancer(
        id="lb",
        project_id="p",
        name="web",
        vip_address="192.0.2.1",
        vip_subnet_id="s",
        created_at=utcnow(),
    )
    assert payload(loadbalancer) == {
        "loadbalancer_id": "lb",
        "name": "web",
        "description": "",
        "project_id": "p",
        "admin_state_up": True,
        "availability_zone": None,
        "vip_address": "192.0.2.1",
        "vip_network_id": None,
        "vip_port_id": None,
        "vip_subnet_id": "s",
        "vip_qos_policy_id": None,
    }
    assert [event.value for event in Event] == [
        "octavia.loadbalancer.create.end",
        "octavia.loadbalancer.update.end",
        "octavia.loadbalancer.delete.end",
    ]
