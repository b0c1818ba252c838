"""Hashes tell where two nodes are configured differently, and nothing about secrets."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

import tavia
from tavia import config
from tavia.config import fingerprint

SALT = "a deployment"


def hashes(tmp_path: Path, text: str = "", *, key: str = "k", salt: str = SALT) -> dict[str, str]:
    path = tmp_path / "octavia.conf"
    path.write_text(f"{text}\n[health_manager]\nheartbeat_key = {key}\n")
    return fingerprint.group_hashes(config.load(["--config-file", str(path)], "tavia-worker"), salt)


def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {group for group in one if one[group] != other[group]}


def test_the_same_values_have_the_same_hash_however_they_are_written(tmp_path: Path) -> None:
    assert hashes(tmp_path) == hashes(tmp_path, "[controller_worker]\nloadbalancer_topology = SINGLE\n# a comment")


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("[controller_worker]\nloadbalancer_topology = ACTIVE_STANDBY", "controller_worker"),
        ("[health_manager]\ncontroller_ip_port_list = 192.0.2.1:5555", "health_manager"),
        ("[haproxy_amphora]\nbind_port = 9444", "haproxy_amphora"),
        ("[database]\nconnection = mysql+pymysql://u:other@h/d", "database"),
        ("[keystone_authtoken]\nmemcached_servers = 192.0.2.1:11211", "keystone_authtoken"),
        ("[keepalived_vrrp]\nvrrp_advert_int = 2", "keepalived_vrrp"),
        ("[nova]\nenable_anti_affinity = true", "nova"),
        ("[glance]\nregion_name = Two", "glance"),
    ],
)
def test_a_difference_shows_in_its_group_and_in_no_other(tmp_path: Path, text: str, group: str) -> None:
    assert differing(hashes(tmp_path), hashes(tmp_path, text)) == {group}


@pytest.mark.parametrize("group", ["keystone_authtoken", "service_auth", "neutron"])
def test_another_password_of_the_services_user_shows(tmp_path: Path, group: str) -> None:
    plugin = f"[{group}]\nauth_type = password\nauth_url = http://k:5000\nusername = octavia\npassword = "
    assert differing(hashes(tmp_path, f"{plugin}one"), hashes(tmp_path, f"{plugin}two")) == {group}


def test_another_heartbeat_key_shows(tmp_path: Path) -> None:
    assert differing(hashes(tmp_path, key="one"), hashes(tmp_path, key="two")) == {"health_manager"}


@pytest.mark.parametrize(
    "text",
    [
        "[DEFAULT]\nhost = another\ndebug = true\nlog_file = /var/log/x.log",
        "[api_settings]\nbind_host = ::1\nbind_port = 9877",
        "[health_manager]\nbind_ip = 127.0.0.2\nbind_port = 5556",
        "[certificates]\nca_certificate = /elsewhere/ca.pem\nca_private_key = /elsewhere/ca.key",
        "[haproxy_amphora]\nclient_cert = /elsewhere/client.pem\nserver_ca = /elsewhere/ca.pem",
        "[tavia]\nstate_dir = /elsewhere\nworker_metrics_port = 9100",
        "[keystone_authtoken]\ncafile = /elsewhere/ca.pem",
        "[service_auth]\ncafile = /elsewhere/ca.pem\n[nova]\nca_certificates_file = /elsewhere/ca.pem",
    ],
)
def test_what_is_a_nodes_own_does_not_show(tmp_path: Path, text: str) -> None:
    assert hashes(tmp_path) == hashes(tmp_path, text)


def test_another_deployment_has_other_hashes(tmp_path: Path) -> None:
    one, other = hashes(tmp_path), hashes(tmp_path, salt="another deployment")
    assert differing(one, other) == set(one)


def test_one_guess_at_a_secret_takes_longer_than_a_hash_does(tmp_path: Path) -> None:
    began = time.process_time()
    hashes(tmp_path, key="a guess that nobody made before")
    slow = time.process_time() - began
    began = time.process_time()
    hashes(tmp_path, key="a guess that nobody made before")
    assert slow - (time.process_time() - began) > 0.01


@pytest.mark.parametrize(
    ("room", "prog"),
    [
        ("api", "tavia-api"),
        ("worker", "tavia-worker"),
        ("health", "tavia-health-manager"),
        ("housekeeping", "tavia-housekeeping"),
    ],
)
def test_a_service_reads_no_group_that_it_is_said_not_to_use(room: str, prog: str) -> None:
    sources = (Path(tavia.__file__).parent / room).rglob("*.py")
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text())))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_conf(node.value)}
    assert read, "nothing is read at all: the test looks at the wrong thing"
    assert not read & fingerprint.NOT_USED[prog]


def _is_conf(node: ast.AST) -> bool:
    """``conf`` or ``something.conf``."""
    match node:
        case ast.Name("conf") | ast.Attribute(attr="conf" | "_conf"):
            return True
    return False
