"""An amphora's identity: what of a config drive is taken, and that all that is wrong with it is said."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tavia.agent import identity
from tavia.agent.identity import FILES, Identity, IdentityError, files_of, management
from tavia.amphora.agent_config import render_agent_config
from tavia.cloud.openstack.userdata import user_data

CONFIG = render_agent_config(
    amphora_id="a", controllers=["192.0.2.1:5555"], heartbeat_interval=10, heartbeat_key_hex="00", bind_port=9443
)
GOOD = dict(zip(FILES, (CONFIG.encode(), b"certificate and key", b"authority"), strict=True))
MAC = "fa:16:3e:01:00:05"


def drive(files: dict[str, bytes]) -> bytes:
    return base64.b64decode(user_data(files))


def network(*networks: dict[str, Any], mac: str = MAC) -> dict[str, Any]:
    links = [{"id": "m", "ethernet_mac_address": mac, "mtu": 1450}, {"id": "d", "ethernet_mac_address": "other"}]
    return {"links": links, "networks": [{"link": "m", **each} for each in networks]}


def test_what_the_controller_gives_is_what_is_taken() -> None:
    assert files_of(drive(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("user_data", "said"),
    [
        (b"#!/bin/sh\n", ["does not begin with #cloud-config"]),
        (b"#cloud-config\n{", ["not JSON with write_files"]),
        (b"#cloud-config\n{}\n", ["not JSON with write_files: KeyError('write_files')"]),
        (drive({}), [f"{path} is missing" for path in FILES]),
        (drive({**GOOD, "/etc/shadow": b""}), ["/etc/shadow in user_data of the config drive: only /etc/octavia"]),
        (drive({**GOOD, FILES[0]: b"[amphora_agent]"}), [f"{FILES[0]} of the config drive: option 'amphora_id' is"]),
        (
            b'#cloud-config\n{"write_files": [{"path": "/x", "encoding": "b64", "content": "?"}]}',
            ["content of /x is not base64"],
        ),
    ],
)
def test_all_that_is_wrong_is_said_a_line_each(user_data: bytes, said: list[str]) -> None:
    with pytest.raises(IdentityError) as wrong:
        files_of(user_data)
    assert len(wrong.value.lines) == len(said)
    assert all(words in line for words, line in zip(said, wrong.value.lines, strict=True))


@pytest.mark.parametrize(
    ("networks", "settings"),
    [
        ([], ["DHCP=ipv4", "IPv6AcceptRA=no"]),
        ([{"type": "ipv4_dhcp"}], ["DHCP=ipv4", "IPv6AcceptRA=no"]),
        ([{"type": "ipv6_slaac"}], ["DHCP=no", "IPv6AcceptRA=yes"]),
        ([{"type": "ipv4_dhcp"}, {"type": "ipv6_dhcpv6-stateful"}], ["DHCP=yes", "IPv6AcceptRA=yes"]),
        (
            [{"type": "ipv4", "ip_address": "10.30.0.5", "netmask": "255.255.255.0", "routes": [
                {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.30.0.1"}]}],
            ["DHCP=no", "Address=10.30.0.5/24", "Destination=0.0.0.0/0", "Gateway=10.30.0.1"],
        ),
        (
            [{"type": "ipv6", "ip_address": "fd00::5", "netmask": "ffff:ffff:ffff:ffff::"}],
            ["DHCP=no", "IPv6AcceptRA=no", "Address=fd00::5/64"],
        ),
    ],
)  # fmt: skip
def test_the_first_interface_is_the_management_one_addressed_as_the_cloud_says(
    networks: list[dict[str, Any]], settings: list[str]
) -> None:
    mac, file = management(network(*networks))
    assert mac == MAC
    assert {f"MACAddress={MAC}", "MTUBytes=1450", *settings} <= set(file.splitlines())


@pytest.mark.parametrize("data", [{}, {"links": []}, network({"type": "ipv4"})])
def test_a_drive_without_a_management_interface_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(IdentityError, match="names no management interface"):
        management(data)


@pytest.fixture
def amphora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine below a directory: its config drive (a directory) and the files that are written."""
    paths = {path: str(tmp_path / Path(path).name) for path in FILES}
    monkeypatch.setattr(identity, "FILES", tuple(paths.values()))
    monkeypatch.setattr("tavia.amphora.paths.AGENT_CONFIG", paths[FILES[0]])
    for name in ("STORED", "MANAGEMENT_MAC", "NETWORK_FILE"):
        monkeypatch.setattr(identity, name, tmp_path / name)
    monkeypatch.setattr(identity, "DRIVES", (tmp_path / "drive",))
    monkeypatch.setattr(identity, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(identity, "LATER_WAIT", 0.0)
    monkeypatch.setattr(identity, "_mounted", _bind)
    monkeypatch.setattr(identity, "OWNER", "games")  # the image makes its own
    insert(tmp_path, "server-1")
    return tmp_path


class _bind:  # noqa: N801  in the place of a function
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Path:
        return self.directory

    def __exit__(self, *_: object) -> None:
        """Nothing was mounted."""


def insert(amphora: Path, uuid: str, **files: bytes) -> None:
    latest = amphora / "drive" / "openstack" / "latest"
    latest.mkdir(parents=True, exist_ok=True)
    (latest / "meta_data.json").write_text(json.dumps({"uuid": uuid}))
    (latest / "network_data.json").write_text(json.dumps(network({"type": "ipv4_dhcp"})))
    (latest / "user_data").write_bytes(drive({str(amphora / Path(p).name): c for p, c in GOOD.items()}))


def test_the_files_are_written_at_the_first_boot_for_their_owner_only(amphora: Path) -> None:
    identity.main()
    for path, content in GOOD.items():
        written = amphora / Path(path).name
        assert (written.read_bytes(), written.stat().st_mode & 0o777) == (content, 0o600)
        assert written.owner() == "games"
    assert (amphora / "MANAGEMENT_MAC").read_text() == MAC


def test_a_rotated_certificate_is_not_overwritten_at_the_next_boot(amphora: Path) -> None:
    identity.main()
    (amphora / "server.pem").write_bytes(b"rotated")
    (amphora / "MANAGEMENT_MAC").unlink()
    identity.main()
    assert (amphora / "server.pem").read_bytes() == b"rotated"
    assert (amphora / "MANAGEMENT_MAC").read_text() == MAC


def test_another_server_from_the_same_disk_takes_its_own_identity(amphora: Path) -> None:
    identity.main()
    (amphora / "server.pem").write_bytes(b"another's")
    insert(amphora, "server-2")
    identity.main()
    assert (amphora / "server.pem").read_bytes() == GOOD[FILES[1]]


def test_without_a_drive_it_goes_on_as_before_or_says_that_there_is_none(
    amphora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (amphora / "drive").rename(amphora / "away")
    with pytest.raises(SystemExit):
        identity.main()
    assert capsys.readouterr().out.startswith("tavia: no config drive")
    (amphora / "away").rename(amphora / "drive")
    identity.main()
    (amphora / "drive").rename(amphora / "away")
    identity.main()
    assert Identity(**json.loads((amphora / "STORED").read_text())).uuid == "server-1"
