"""`tavia doctor` never ends in a traceback, tells scripts by its exit status, and leaves everything as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from tavia import pki
from tavia.cli.main import main
from tavia.doctor import asking_host
from tavia.store.migrate import upgrade

SAMPLE = Path(__file__).parents[3] / "deploy" / "octavia.conf"


@pytest.fixture(autouse=True)
def no_service_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Tavia is installed the services' user exists, and cannot read a test's files."""
    monkeypatch.setattr(asking_host, "SERVICE_USER", "no-such-user")


@pytest.fixture
def nobody_listens() -> int:
    """A port of the loopback where nothing listens."""
    return free_port()


def doctor(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict[str, set[str]], str]:
    """The exit status, statuses by check, and all that was printed."""
    status = main(["doctor", "--config-file", str(path), "-f", "json"])
    printed = capsys.readouterr()
    found: list[dict[str, Any]] = json.loads(printed.out)
    statuses: dict[str, set[str]] = {}
    for finding in found:
        assert set(finding) == {"seam", "check", "status", "message", "advice"}
        assert bool(finding["advice"]) == (finding["status"] in ("warning", "wrong"))
        statuses.setdefault(finding["check"], set()).add(finding["status"])
    return status, statuses, printed.out + printed.err


def local(directory: Path, **database: str) -> Path:
    """octavia.conf of a deployment without a cloud, where nothing is wrong."""
    pki.init(directory / "certs")
    path = directory / "octavia.conf"
    path.touch(0o600)
    path.write_text(
        "[api_settings]\nauth_strategy = noauth\n"
        "[controller_worker]\ncompute_driver = compute_noop_driver\nnetwork_driver = network_noop_driver\n"
        f"image_driver = image_noop_driver\nclient_ca = {directory}/certs/{pki.CLIENT_CA}\n"
        f"[haproxy_amphora]\nclient_cert = {directory}/certs/{pki.CLIENT}\n"
        f"server_ca = {directory}/certs/{pki.SERVER_CA}\n"
        f"[certificates]\nca_certificate = {directory}/certs/{pki.SERVER_CA}\n"
        f"ca_private_key = {directory}/certs/{pki.SERVER_CA_KEY}\n"
        f"[database]\nconnection = sqlite:///{directory}/tavia.sqlite\n"
        "[health_manager]\nheartbeat_key = 0d9c1b8a7f6e5d4c3b2a19080706f5e4\n"
    )
    return path


def test_nothing_is_wrong_with_one_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = local(tmp_path)
    upgrade(f"sqlite:///{tmp_path}/tavia.sqlite")
    status, found, _ = doctor(capsys, path)
    assert status == 0, found
    assert found["database"] == found["authentication"] == {"warning"}
    assert {check for check, statuses in found.items() if statuses != {"ok"}} == {"database", "authentication"}
    assert "image" not in found


def test_a_database_that_is_not_there_is_wrong_and_is_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, found, _ = doctor(capsys, local(tmp_path))
    assert (status, found["database"], found["database-clock"]) == (1, {"wrong"}, {"unknown"})
    assert not (tmp_path / "tavia.sqlite").exists()


def test_where_everything_is_down_it_says_so_and_what_it_cannot_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, nobody_listens: int
) -> None:
    text = SAMPLE.read_text().replace("# transport_url", "transport_url")
    for name, value in {
        "API_ADDRESS": "127.0.0.1",
        "KEYSTONE_URL": f"http://127.0.0.1:{nobody_listens}/v3",
        "MGMT_ADDRESS": "172.16.0.2",
        "DATABASE_PASSWORD": "a-db-pass",
        "RABBIT_PASSWORD": "a-rabbit-pass",
        "SERVICE_PASSWORD": "a-service-pass",
        "HEARTBEAT_KEY": "a-heartbeat-key-of-some-length",
    }.items():
        text = text.replace(f"%{name}%", value)
    text = text.replace("@127.0.0.1/octavia", f"@127.0.0.1:{nobody_listens}/octavia")
    path = tmp_path / "octavia.conf"
    path.write_text(
        text.replace("127.0.0.1:5672", f"127.0.0.1:{nobody_listens}").replace("/etc/octavia", str(tmp_path))
    )
    status, found, printed = doctor(capsys, path)
    assert status == 1
    for check in ("database", "rabbitmq", "keystone", "token-checks", "certificate-files"):
        assert found[check] == {"wrong"}, (check, found[check])
    for check in ("image", "flavor", "boot-networks", "controller-leg", "quotas", "cloud-services", "database-clock"):
        assert found[check] == {"unknown"}, (check, found[check])
    for secret in ("a-db-pass", "a-rabbit-pass", "a-service-pass", "a-heartbeat-key-of-some-length"):
        assert secret not in printed


def test_what_oslo_config_refuses_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "octavia.conf"
    path.write_text("[api_settings]\nbind_port = http\n[health_manager]\nbind_ip = here\n")
    status, found, printed = doctor(capsys, path)
    assert (status, found) == (1, {"options": {"wrong"}})
    assert "bind_port" in printed
    assert "bind_ip" in printed


def test_without_a_file_nothing_can_be_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = main(["doctor", "--config-file", str(tmp_path / "octavia.conf"), "-f", "json"])
    (finding,) = json.loads(capsys.readouterr().out)
    assert (status, finding["status"]) == (2, "unknown")


def test_people_read_what_to_type_in_lines_that_are_not_broken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = local(tmp_path)
    key = tmp_path / "certs" / pki.SERVER_CA_KEY
    key.chmod(0o644)
    assert main(["doctor", "--config-file", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip() == f"→ chmod 0600 {key}" for line in lines), lines
