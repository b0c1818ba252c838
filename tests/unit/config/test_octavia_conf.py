"""A production octavia.conf, which Octavia 2025.2 accepts as it is, loads in every service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tavia import config

FILE = Path(__file__).parent / "octavia.conf"
SERVICES = ("tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping")
SECRETS = (
    "rabbit-pass",
    "db-pass",
    "a-heartbeat-key",
    "a-memcache-key",
    "keystone-pass",
    "service-pass",
    "a-ca-passphrase",
)


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """oslo.log replaces the root logger's handlers; put them back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def load(path: Path, prog: str = "tavia-worker") -> cfg.ConfigOpts:
    return config.load(["--config-file", str(path)], prog, [])


@pytest.mark.parametrize("prog", SERVICES)
@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        (None, "host", "controller-1.example.org"),
        (None, "graceful_shutdown_timeout", 45),
        ("api_settings", "bind_host", "10.1.0.11"),
        ("api_settings", "auth_strategy", "keystone"),
        ("api_settings", "pagination_max_limit", "infinite"),
        (
            "api_settings",
            "enabled_provider_drivers",
            {
                "amphora": "The Octavia Amphora driver.",
                "octavia": "Deprecated alias of the Octavia Amphora driver.",
                "ovn": "The Octavia OVN driver.",
            },
        ),
        ("database", "connection", "mysql+pymysql://octavia:db-pass@10.0.0.20/octavia?charset=utf8mb4"),
        ("database", "max_retries", -1),
        ("health_manager", "heartbeat_key", "a-heartbeat-key"),
        ("health_manager", "controller_ip_port_list", ["172.16.0.11:5555", "172.16.0.12:5555", "172.16.0.13:5555"]),
        ("health_manager", "failover_threshold", 15),
        ("certificates", "ca_private_key_passphrase", "a-ca-passphrase"),
        ("networking", "allow_vip_port_id", False),
        ("networking", "reserved_ips", ["169.254.169.254", "169.254.169.253"]),
        ("networking", "allow_invisible_resource_usage", False),
        ("networking", "use_remote_group_for_lb_peer_ports", True),
        ("haproxy_amphora", "connection_max_retries", 240),
        ("haproxy_amphora", "build_rate_limit", 10),
        ("controller_worker", "amp_ssh_key_name", "octavia_ssh_key"),
        ("controller_worker", "amp_secgroup_list", ["9f7d4b39-1d0a-4be8-b4ab-0bd65aa2a5b1"]),
        ("controller_worker", "amp_active_retries", 60),
        ("service_auth", "username", "octavia"),
        ("service_auth", "cafile", "/etc/ssl/certs/ca-certificates.crt"),
        ("nova", "endpoint_type", "internalURL"),
        ("nova", "enable_anti_affinity", True),
        ("nova", "anti_affinity_policy", "soft-anti-affinity"),
        ("nova", "availability_zone", "nova"),
        ("glance", "region_name", "RegionOne"),
        ("cinder", "volume_type", "ssd"),
        ("neutron", "valid_interfaces", ["internal"]),
        ("neutron", "endpoint_override", "https://network.internal.example.org:9696"),
        ("neutron", "timeout", 60.0),
        ("haproxy_amphora", "user_log_format", "{{ project_id }} {{ lb_id }} %f %ci %cp %t %{+Q}r %ST %B %U"),
        ("haproxy_amphora", "rest_request_read_timeout", 40.0),
        ("controller_worker", "amp_flavor_id", "200"),
        ("controller_worker", "amp_boot_network_list", ["33b33aa1-3d5c-4d31-8c2c-6c6d2a9a3d11"]),
        ("controller_worker", "loadbalancer_topology", "ACTIVE_STANDBY"),
        ("house_keeping", "cert_expiry_buffer", 604800),
        ("keepalived_vrrp", "vrrp_advert_int", 1.0),
        ("quotas", "default_member_quota", 500),
        ("oslo_middleware", "enable_proxy_headers_parsing", True),
        ("cors", "allowed_origin", ["https://dashboard.example.org"]),
    ],
)
def test_what_tavia_uses_arrives_in_every_service(prog: str, group: str | None, option: str, value: Any) -> None:
    conf = load(FILE, prog)
    assert (conf[group][option] if group else conf[option]) == value


def test_what_has_no_effect_is_named_once_and_nothing_else_is(
    quiet_logging: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "octavia.conf"
    path.write_text(FILE.read_text().replace("/var/log/octavia", str(tmp_path)))
    config.setup_logging(load(path))
    lines = [line for log in tmp_path.glob("*.log") for line in log.read_text().splitlines() if "does not use" in line]
    assert len(lines) == 1
    named = lines[0].rpartition("no effect: ")[2].split(", ")
    assert len(named) == len(set(named))
    for unused in (
        "[task_flow] jobboard_enabled",
        "[compute] max_retries",
        "[cinder] endpoint_type",
        "[haproxy_amphora] bind_host",
        "[api_settings] tls_cipher_blacklist",
    ):
        assert unused in named
    for used in (
        "[DEFAULT] log_dir",
        "[database] connection",
        "[quotas] default_pool_quota",
        "[keystone_authtoken] username",
        "[service_auth] user-name",
        "[neutron] auth_section",
        "[nova] random_amphora_name_length",
    ):
        assert used not in named
    for secret in SECRETS:
        assert secret not in lines[0]


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("bind_port = 9876", "bind_port = http", r"\[api_settings\] bind_port: .*http"),
        ("heartbeat_interval = 5", "heartbeat_interval = soon", r"\[health_manager\] heartbeat_interval: .*soon"),
        ("loadbalancer_topology = ACTIVE_STANDBY", "loadbalancer_topology = ACTIVE", r"\[controller_worker\] .*ACTIVE"),
        ("bind_ip = 172.16.0.11", "bind_ip = the-management-network", r"\[health_manager\] bind_ip: .*network"),
        (
            "compute_driver = compute_nova_driver",
            "compute_driver = nova",
            r"\[controller_worker\] compute_driver.*nova",
        ),
        ("cleanup_interval = 60", "cleanup_interval = 0", r"\[house_keeping\] cleanup_interval"),
        (
            "reserved_ips = 169.254.169.254, 169.254.169.253",
            "reserved_ips = metadata",
            r"\[networking\] reserved_ips: .*metadata",
        ),
        ("allow_vip_port_id = False", "allow_vip_port_id = perhaps", r"\[networking\] allow_vip_port_id: .*perhaps"),
    ],
)
def test_a_wrong_value_is_named_with_its_group_and_option(tmp_path: Path, right: str, wrong: str, named: str) -> None:
    path = tmp_path / "octavia.conf"
    text = FILE.read_text()
    assert right in text
    path.write_text(text.replace(f"\n{right}\n", f"\n{wrong}\n"))
    with pytest.raises(SystemExit, match=named):
        load(path)


@pytest.mark.parametrize("prog", ["tavia-api", "tavia-housekeeping", "tavia"])
def test_who_does_not_sign_heartbeats_needs_no_key(tmp_path: Path, prog: str) -> None:
    path = tmp_path / "octavia.conf"
    path.write_text(FILE.read_text().replace("heartbeat_key = a-heartbeat-key\n", ""))
    assert load(path, prog).health_manager.heartbeat_key is None
    with pytest.raises(SystemExit, match=r"\[health_manager\] heartbeat_key"):
        load(path, "tavia-worker")


def test_a_directory_of_files_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "10-site.conf").write_text(FILE.read_text())
    (tmp_path / "20-node.conf").write_text("[DEFAULT]\nhost = controller-2\n[nova]\nmade_up = 1\n")
    conf = config.load(["--config-dir", str(tmp_path)], "tavia-worker", [])
    assert (conf.host, conf.quotas.default_member_quota) == ("controller-2", 500)
    assert "[nova] made_up" in config.unused_options(conf)
