"""How a worker reaches agents: within a step's deadline, and without keeping connections to amphorae that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from tavia import config, pki
from tavia.model.resources import Amphora
from tavia.store.clock import utcnow
from tavia.worker import service


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    path = tmp_path / "octavia.conf"
    path.write_text("[health_manager]\nheartbeat_key = key\ncontroller_ip_port_list = 198.18.0.2:5555\n")
    return config.load(["--config-file", str(path)], "tavia-worker")


def amphora(number: int) -> Amphora:
    return Amphora(id=f"amphora-{number}", created_at=utcnow(), lb_network_ip=f"198.18.0.{number}")


def test_an_agents_connection_is_kept_but_not_for_ever(
    conf: cfg.ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "KEPT_CLIENTS", 3)
    pki.init(tmp_path)
    conf.set_override("client_cert", str(tmp_path / pki.CLIENT), "haproxy_amphora")
    conf.set_override("server_ca", str(tmp_path / pki.SERVER_CA), "haproxy_amphora")
    client_of = service.agent_clients(conf)
    first = client_of(amphora(1))
    assert client_of(amphora(1)) is first
    for number in range(2, 5):
        client_of(amphora(number))
    assert client_of(amphora(1)) is not first


@pytest.mark.parametrize(
    ("connect", "read", "deadline", "expected"),
    [(10.0, 60.0, 30.0, 17.0), (10.0, 5.0, 30.0, 5.0), (10.0, 60.0, 5.0, 1.0)],
)
def test_an_agent_that_is_silent_is_given_up_within_a_steps_deadline(
    conf: cfg.ConfigOpts, connect: float, read: float, deadline: float, expected: float
) -> None:
    conf.set_override("rest_request_conn_timeout", connect, "haproxy_amphora")
    conf.set_override("rest_request_read_timeout", read, "haproxy_amphora")
    conf.set_override("step_deadline", deadline, "tavia")
    assert service.answer_timeout(conf) == expected


def test_random_names_of_servers_are_as_long_as_nova_is_told(conf: cfg.ConfigOpts) -> None:
    conf.set_override("client_ca", __file__, "controller_worker")
    assert service.boot_options(conf, "d")().random_name_length == 0
    conf.set_override("random_amphora_name_length", 12, "nova")
    assert service.boot_options(conf, "d")().random_name_length == 12
