"""An operator's octavia.conf loads as it is; mistakes stop a service at once; what has no effect is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tavia import config

Write = Callable[[str], str]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        path = tmp_path / "octavia.conf"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """oslo.log replaces the root logger's handlers; put them back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_an_operators_file_loads_and_sets_what_tavia_uses(written: Write) -> None:
    conf = config.load(
        [
            "--config-file",
            written(
                """
[DEFAULT]
transport_url = rabbit://openstack:secret@10.0.0.1:5672//
host = controller-2
[api_settings]
bind_host = 10.1.0.5
enabled_provider_drivers = amphora: The Octavia Amphora driver.,ovn: OVN
[database]
connection = mysql+pymysql://octavia:secret@10.0.0.2/octavia
max_pool_size = 10
[health_manager]
heartbeat_key = insecure
heartbeat_interval = 5
controller_ip_port_list = 172.16.0.2:5555, 172.16.0.3:5555
[nova]
enable_anti_affinity = True
[keystone_authtoken]
username = octavia
"""
            ),
        ],
        "tavia-worker",
    )
    assert conf.host == "controller-2"
    assert conf.api_settings.bind_host == "10.1.0.5"
    assert conf.api_settings.enabled_provider_drivers == {"amphora": "The Octavia Amphora driver.", "ovn": "OVN"}
    assert conf.database.max_pool_size == 10
    assert conf.health_manager.heartbeat_interval == 5.0
    assert conf.health_manager.controller_ip_port_list == ["172.16.0.2:5555", "172.16.0.3:5555"]


def test_defaults_are_octavias(written: Write) -> None:
    conf = config.load(["--config-file", written("[health_manager]\nheartbeat_key = k\n")], "tavia-api")
    assert conf.controller_worker.compute_driver == "compute_nova_driver"
    assert conf.controller_worker.loadbalancer_topology == "SINGLE"
    assert (conf.health_manager.heartbeat_interval, conf.health_manager.heartbeat_timeout) == (10, 60)
    assert conf.keepalived_vrrp.vrrp_advert_int == 1
    assert conf.certificates.cert_validity_time == 2592000
    assert conf.house_keeping.cert_expiry_buffer == 1209600
    assert conf.oslo_middleware.max_request_body_size == 114688
    assert conf.health_manager.failover_threshold is None
    assert (conf.controller_worker.amp_active_retries, conf.controller_worker.amp_active_wait_sec) == (30, 10)
    haproxy = conf.haproxy_amphora
    assert (haproxy.bind_port, haproxy.connection_max_retries, haproxy.connection_retry_interval) == (9443, 120, 5)
    assert haproxy.build_rate_limit == -1
    assert (conf.nova.endpoint_type, conf.nova.anti_affinity_policy) == ("publicURL", "anti-affinity")
    assert not conf.nova.enable_anti_affinity
    assert conf.cinder.volume_size == 16
    assert not conf.networking.allow_invisible_resource_usage
    assert conf.networking.use_remote_group_for_lb_peer_ports


def test_alembics_remarks_at_every_start_are_not_logged(written: Write) -> None:
    conf = config.load(["--config-file", written("")], "tavia-api")
    assert "alembic=WARN" in conf.default_log_levels
    assert "amqp=WARN" in conf.default_log_levels


def test_two_configurations_do_not_share_anything(written: Write) -> None:
    one = config.load(["--config-file", written("[DEFAULT]\nhost=a\n[health_manager]\nheartbeat_key=1\n")], "tavia-api")
    two = config.load(["--config-file", written("[DEFAULT]\nhost=b\n[health_manager]\nheartbeat_key=2\n")], "tavia-api")
    assert (one.host, two.host) == ("a", "b")


def test_what_has_no_effect_is_named_in_one_line(
    written: Write, quiet_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = config.load(
        [
            "--config-file",
            written("[health_manager]\nheartbeat_key = k\nhealth_update_threads = 4\n[neutron]\nmade_up = 1\n"),
        ],
        "tavia-worker",
    )
    config.setup_logging(conf)
    lines = [line for line in capsys.readouterr().out.splitlines() if "does not use" in line]
    assert len(lines) == 1
    assert lines[0].endswith("[health_manager] health_update_threads, [neutron] made_up")


def test_old_names_of_the_libraries_options_count_as_used(written: Write) -> None:
    conf = config.load(
        ["--config-file", written("[DEFAULT]\nlogdir = /tmp\n[health_manager]\nheartbeat_key = k\n")], "tavia-worker"
    )
    assert config.unused_options(conf) == []


def test_a_file_without_heartbeat_key_is_refused(written: Write) -> None:
    with pytest.raises(SystemExit, match="heartbeat_key"):
        config.load(["--config-file", written("[DEFAULT]\n")], "tavia-worker")


def test_all_mistakes_are_named_at_once(written: Write) -> None:
    text = "[health_manager]\nheartbeat_key=k\n[api_settings]\nbind_port=x\n[controller_worker]\ncompute_driver=qemu\n"
    with pytest.raises(SystemExit) as stopped:
        config.load(["--config-file", written(text)], "tavia-api")
    assert "[api_settings] bind_port" in str(stopped.value)
    assert "[controller_worker] compute_driver" in str(stopped.value)


def test_the_heartbeat_key_never_reaches_the_log(written: Write, caplog: pytest.LogCaptureFixture) -> None:
    conf = config.load(["--config-file", written("[health_manager]\nheartbeat_key = top-secret\n")], "tavia-worker")
    with caplog.at_level(logging.DEBUG):
        conf.log_opt_values(logging.getLogger("test"), logging.DEBUG)
    assert "heartbeat_key" in caplog.text
    assert "top-secret" not in caplog.text


def test_the_options_of_the_named_auth_plugin_are_known_and_others_are_not(written: Write) -> None:
    text = "[health_manager]\nheartbeat_key=k\n[keystone_authtoken]\nauth_type=password\npassword=p\ntoken=t\n"
    conf = config.load(["--config-file", written(text)], "tavia-api")
    assert conf.keystone_authtoken.password == "p"
    assert config.unused_options(conf) == ["[keystone_authtoken] token"]


def test_an_auth_plugin_may_have_a_section_of_its_own(written: Write) -> None:
    text = "[health_manager]\nheartbeat_key=k\n[keystone_authtoken]\nauth_section=ours\n[ours]\nauth_type=password\n"
    conf = config.load(
        ["--config-file", written(f"{text}auth_url=http://keystone\nproject_name=service\n")], "tavia-api"
    )
    assert conf.ours.auth_url == "http://keystone"
    assert config.unused_options(conf) == []


def test_an_auth_plugin_that_is_not_there_is_named(written: Write) -> None:
    text = "[health_manager]\nheartbeat_key=k\n[keystone_authtoken]\nauth_type=passwort\n"
    with pytest.raises(SystemExit, match="auth_type: there is no plugin passwort"):
        config.load(["--config-file", written(text)], "tavia-api")


SERVICE_AUTH = "[service_auth]\nauth_type=password\nauth_url=http://keystone\nusername=octavia\npassword=p\n"


def test_networking_may_log_in_as_another_user(written: Write) -> None:
    text = SERVICE_AUTH + "[neutron]\nauth_type=password\nauth_url=http://other\nusername=n\npassword=q\n"
    conf = config.load(["--config-file", written(text)], "tavia-api")
    assert (conf.neutron.username, conf.neutron.password, conf.service_auth.username) == ("n", "q", "octavia")
    assert config.unused_options(conf) == []


def test_credentials_of_networking_without_auth_type_have_no_effect(written: Write) -> None:
    conf = config.load(["--config-file", written(SERVICE_AUTH + "[neutron]\npassword=q\n")], "tavia-api")
    assert config.unused_options(conf) == ["[neutron] password"]


@pytest.mark.parametrize("group", ["service_auth", "neutron"])
def test_a_login_by_a_plugin_that_is_not_there_is_named(written: Write, group: str) -> None:
    with pytest.raises(SystemExit, match=rf"\[{group}\] auth_type: there is no plugin passwort"):
        config.load(["--config-file", written(f"[{group}]\nauth_url=u\nauth_type=passwort\n")], "tavia-api")
