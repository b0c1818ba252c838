"""From one boot to the next: what an amphora keeps, how it boots, and what it says when it cannot."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from agent_lab import DAY, bundle, until
from image_lab import ImageLab
from trees import listener, member, pool

OVMF = Path("/usr/share/ovmf/OVMF.fd")


def test_after_a_power_cut_it_serves_with_no_controller_and_keeps_its_rotated_certificate(lab: ImageLab) -> None:
    """By the disk's own boot loader, twice."""
    lab.member(1)
    guest = lab.boot(loader=True).ready()
    rotated = lab.server_ca.issue_amphora(guest.id, DAY).pem
    with guest.client() as client:
        client.put_bundle(bundle(guest, listener(), pool(), member()))  # type: ignore[arg-type]  # all that it asks for
        client.put_certificate(rotated)
    assert until(lab.get) == b"10.20.0.101"
    guest.power_off()
    assert lab.get() == b""
    guest.power_on()
    assert until(lab.get, 180) == b"10.20.0.101"
    guest.ready()
    assert guest.certificate() == ssl.PEM_cert_to_DER_cert(rotated.decode().partition("-----BEGIN PRIVATE")[0])
    assert lab.heartbeat(lambda said: said.boot_count == 2).generation == 7


@pytest.mark.skipif(not OVMF.exists(), reason="no EFI firmware for qemu here: apt-get install ovmf")
def test_it_boots_with_efi_too(lab: ImageLab) -> None:
    lab.boot(loader=True, firmware=str(OVMF)).ready()


def test_what_is_wrong_with_the_config_drive_is_on_the_console_a_line_each(lab: ImageLab) -> None:
    files = {"/etc/octavia/amphora-agent.conf": b"[amphora_agent]\n", "/etc/shadow": b"root::0:0:99999:7:::\n"}
    guest = lab.boot(files=files)
    guest.says("tavia: /etc/octavia/amphora-agent.conf of the config drive: option 'amphora_id' is missing")
    guest.says("tavia: /etc/shadow in user_data of the config drive: only /etc/octavia")
    assert not guest.open(9443)
