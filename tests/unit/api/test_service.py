"""A service that would let anyone in does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tavia import config
from tavia.api.service import check_identity, main


def check(tmp_path: Path, auth_strategy: str, bind_host: str, more: str = "") -> None:
    path = tmp_path / "octavia.conf"
    api_settings = f"[api_settings]\nauth_strategy = {auth_strategy}\nbind_host = {bind_host}\n"
    path.write_text(f"{api_settings}[health_manager]\nheartbeat_key = not-used\n{more}")
    check_identity(config.load(["--config-file", str(path)], "tavia-api", []))


@pytest.mark.parametrize("bind_host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_noauth_serves_loopback(tmp_path: Path, bind_host: str) -> None:
    check(tmp_path, "noauth", bind_host)


@pytest.mark.parametrize("bind_host", ["0.0.0.0", "192.0.2.1", "::"])
def test_noauth_refuses_an_address_that_others_reach(tmp_path: Path, bind_host: str) -> None:
    with pytest.raises(SystemExit, match="Either bind to a loopback address or set auth_strategy = keystone"):
        check(tmp_path, "noauth", bind_host)


@pytest.mark.parametrize("auth_strategy", ["noauth", "testing"])
def test_noauth_listens_anywhere_when_told_so_by_name(tmp_path: Path, auth_strategy: str) -> None:
    check(tmp_path, auth_strategy, "0.0.0.0", "[tavia]\nnoauth_bind_anywhere = true\n")


def test_keystone_listens_anywhere(tmp_path: Path) -> None:
    check(tmp_path, "keystone", "0.0.0.0", "[keystone_authtoken]\nauth_type = password\n")


def test_keystone_takes_a_user_of_the_services_own(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"\[keystone_authtoken\] auth_type is not set"):
        check(tmp_path, "keystone", "127.0.0.1")


def test_a_service_without_its_database_says_so_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "octavia.conf"
    path.write_text(
        "[api_settings]\nauth_strategy = noauth\n[health_manager]\nheartbeat_key = not-used\n"
        f"[database]\nconnection = sqlite:///{tmp_path}/empty.sqlite\n"
    )
    with pytest.raises(SystemExit, match=r"tavia-api: control/schema-outdated: .*run tavia db upgrade"):
        main(["--config-file", str(path)])
