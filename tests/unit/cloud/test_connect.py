"""Which cloud the configuration leads to, and what each says when it cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg

from tavia.cloud import connect
from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.servers import Record, require_haproxy, status
from tavia.cloud.local.service import require_root
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import PortSpec, ServerSpec, ServerStatus
from tavia.config import load
from tavia.model.seams import SeamError

LOCAL, NOOP = (
    "\n".join(f"{face}_driver = {face}_{kind}_driver" for face in ("compute", "network", "image"))
    for kind in ("local", "noop")
)


def configured(tmp_path: Path, drivers: str, *, state_dir: bool = True) -> cfg.ConfigOpts:
    text = "[health_manager]\nheartbeat_key = insecure-but-long-enough-for-a-test\n"
    text += f"[controller_worker]\n{drivers}\n"
    if state_dir:
        text += f"[tavia]\nstate_dir = {tmp_path}\n"
    (tmp_path / "octavia.conf").write_text(text)
    return load([], "test", default_config_files=[str(tmp_path / "octavia.conf")])


def test_the_local_cloud_is_asked_through_its_socket(tmp_path: Path) -> None:
    cloud = connect(configured(tmp_path, LOCAL))
    assert isinstance(cloud.compute, LocalClient)
    with pytest.raises(SeamError, match=str(tmp_path / "local-cloud.sock")):
        cloud.networking.networks()


def test_the_local_cloud_needs_its_state_directory(tmp_path: Path) -> None:
    with pytest.raises(SeamError, match="state_dir"):
        connect(configured(tmp_path, LOCAL, state_dir=False))


def test_noop_does_nothing(tmp_path: Path) -> None:
    cloud = connect(configured(tmp_path, NOOP))
    assert isinstance(cloud.compute, NoopCloud)
    assert isinstance(cloud.networking, NoopCloud)
    assert isinstance(cloud.images, NoopCloud)


def test_each_driver_counts(tmp_path: Path) -> None:
    mixed = LOCAL.replace("compute_local_driver", "compute_noop_driver")
    cloud = connect(configured(tmp_path, mixed))
    assert isinstance(cloud.compute, NoopCloud)
    assert isinstance(cloud.networking, LocalClient)


def test_openstack_needs_credentials(tmp_path: Path) -> None:
    with pytest.raises(SeamError, match=r"\[service_auth\] auth_type is not set") as refused:
        connect(configured(tmp_path, "compute_driver = compute_nova_driver"))
    assert (refused.value.code, refused.value.permanent) == ("cloud-not-configured", True)


def test_no_other_cloud_imports_openstacksdk() -> None:
    code = "import sys, tavia.cloud; sys.exit('openstack' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_root_the_daemon_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SeamError, match="run it as root"):
        require_root()


def test_without_haproxy_a_boot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SeamError, match="apt-get install haproxy") as missing:
        require_haproxy()
    assert (missing.value.code, missing.value.permanent) == ("haproxy-missing", True)


@pytest.mark.parametrize(
    ("booting", "fault", "alive", "expected"),
    [
        (True, None, False, ServerStatus.BUILDING),
        (True, None, True, ServerStatus.BUILDING),
        (False, None, True, ServerStatus.ACTIVE),
        (False, None, False, ServerStatus.OFF),
        (False, "why", False, ServerStatus.ERROR),
    ],
)
def test_a_servers_status(booting: bool, fault: str | None, alive: bool, expected: ServerStatus) -> None:
    record = Record(
        id="s", name="s", created_at=0.0, tags=frozenset(), port_ids=(), booting=booting, fault=fault, process=None
    )
    assert status(record, alive=alive) == expected


def test_noop_knows_everything_alike_in_every_process() -> None:
    one, other = NoopCloud(), NoopCloud()
    assert one.port("any") == other.port("any")
    assert one.subnet("any") == other.subnet("any")
    assert one.network(one.subnet("any").network_id) == other.network(other.subnet("any").network_id)
    server = one.server("any")
    assert server is not None
    assert server.status == ServerStatus.ACTIVE


def test_noop_remembers_what_it_was_told() -> None:
    cloud = NoopCloud()
    port = cloud.create_port(
        PortSpec(name="p", network_id="n", fixed_ips=[("s", "198.18.0.9"), ("t", None)], tags=frozenset({"t"}))
    )
    assert port.fixed_ips[0].ip_address == "198.18.0.9"
    cloud.set_allowed_addresses(port.id, frozenset({"198.18.0.10"}))
    assert cloud.port(port.id).allowed_addresses == {"198.18.0.10"}
    server_id = cloud.boot(
        ServerSpec(name="a", image_id=None, flavor=None, port_ids=[port.id], files={}, tags=frozenset({"t"}))
    )
    assert [server.id for server in cloud.servers(frozenset({"t"}))] == [server_id]
    cloud.power_off(server_id)
    assert [server.status for server in cloud.servers(frozenset({"t"}))] == [ServerStatus.OFF]
    cloud.delete(server_id)
    assert cloud.server(server_id) is None
