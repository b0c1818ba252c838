"""SIGHUP takes over what is mutable, all or nothing, and says so without giving a secret away."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from tavia import config
from tavia.config import reloading

KEY = "a-secret-key"


class File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.write()

    def write(self, text: str = "", key: str = KEY) -> None:
        self.path.write_text(f"{text}\n[health_manager]\nheartbeat_key = {key}\n")

    def load(self) -> cfg.ConfigOpts:
        return config.load(["--config-file", str(self.path)], "tavia-worker")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "octavia.conf")


def test_mutable_options_change_and_the_log_says_from_what_to_what(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    conf = file.load()
    assert conf.controller_worker.loadbalancer_topology == "SINGLE"
    file.write("[controller_worker]\nloadbalancer_topology = ACTIVE_STANDBY\n[DEFAULT]\ngraceful_shutdown_timeout = 5")
    with caplog.at_level(logging.INFO):
        reloading.reload(conf)
    assert conf.controller_worker.loadbalancer_topology == "ACTIVE_STANDBY"
    assert conf.graceful_shutdown_timeout == 5
    assert "[controller_worker] loadbalancer_topology from SINGLE to ACTIVE_STANDBY" in caplog.text
    assert "[DEFAULT] graceful_shutdown_timeout from 60 to 5" in caplog.text


def test_what_takes_a_restart_is_named_and_stays(file: File, caplog: pytest.LogCaptureFixture) -> None:
    conf = file.load()
    file.write("[haproxy_amphora]\nbind_port = 9444")
    reloading.reload(conf)
    assert conf.haproxy_amphora.bind_port == 9443
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage() == "Not changed, it takes a restart: [haproxy_amphora] bind_port from 9443 to 9444"


def test_a_mistake_changes_nothing_and_is_named(file: File, caplog: pytest.LogCaptureFixture) -> None:
    conf = file.load()
    file.write("[controller_worker]\nloadbalancer_topology = TRIPLE\n[DEFAULT]\ngraceful_shutdown_timeout = 5")
    reloading.reload(conf)
    assert conf.controller_worker.loadbalancer_topology == "SINGLE"
    assert conf.graceful_shutdown_timeout == 60
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "[controller_worker] loadbalancer_topology" in record.getMessage()
    assert "TRIPLE" in record.getMessage()
    file.write("[DEFAULT]\ngraceful_shutdown_timeout = 6")
    reloading.reload(conf)
    assert conf.graceful_shutdown_timeout == 6


def test_a_file_that_is_gone_changes_nothing(file: File, caplog: pytest.LogCaptureFixture) -> None:
    conf = file.load()
    file.path.unlink()
    reloading.reload(conf)
    assert conf.health_manager.heartbeat_key == KEY
    assert "octavia.conf" in caplog.text


def test_secrets_never_reach_the_log(file: File, caplog: pytest.LogCaptureFixture) -> None:
    conf = file.load()
    file.write("[database]\nconnection = mysql+pymysql://u:pass-word@h/d", key="another-key")
    with caplog.at_level(logging.DEBUG):
        reloading.reload(conf)
    assert conf.health_manager.heartbeat_key == "another-key"
    assert "[health_manager] heartbeat_key (a secret)" in caplog.text
    assert "[database] connection (a secret)" in caplog.text
    for secret in (KEY, "another-key", "pass-word"):
        assert secret not in caplog.text


def test_another_authentication_plugin_takes_a_restart(file: File, caplog: pytest.LogCaptureFixture) -> None:
    plugin = "[keystone_authtoken]\nauth_url = http://k:5000\nauth_type ="
    file.write(f"{plugin} password\nusername = u\npassword = a-password")
    conf = file.load()
    file.write(f"{plugin} v3applicationcredential\napplication_credential_secret = a-credential")
    reloading.reload(conf)
    assert "takes a restart: [keystone_authtoken] auth_type from password to v3applicationcredential" in caplog.text
    assert "a-password" not in caplog.text


@pytest.fixture
def often_another_thread() -> Iterator[None]:
    """The interpreter gives the next thread its turn after 50 microseconds instead of 5 milliseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_another_thread")
def test_a_thread_that_reads_all_the_time_sees_the_new_value_at_last(file: File) -> None:
    conf = file.load()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            _ = conf.graceful_shutdown_timeout

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for seconds in range(1, 15):
            file.write(f"[DEFAULT]\ngraceful_shutdown_timeout = {seconds}")
            reloading.reload(conf)
            assert conf.graceful_shutdown_timeout == seconds
    finally:
        over.set()
        for thread in threads:
            thread.join()
