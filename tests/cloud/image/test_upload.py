"""Uploading an amphora image to a real Glance: what it gets, and that it is not uploaded twice. Its content is not."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amphora_image import UPLOAD
from openstack_cloud import OpenStackCloud

Upload = Callable[..., str]
PROPERTIES = {"hw_rng_model": "virtio", "os_shutdown_timeout": "0", "tavia_build_id": "one"}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A directory as `make image` leaves it, but for the size of what is in it."""
    for name in ("amphora.qcow2", "rootfs.qcow2", "vmlinuz", "initrd"):
        (tmp_path / name).write_bytes(b"QFI\xfb\x00\x00\x00\x03" + bytes(1 << 16))
    _describe(tmp_path, PROPERTIES)
    return tmp_path


@pytest.fixture
def upload(cloud: OpenStackCloud, built: Path) -> Iterator[Upload]:
    name = f"tavia-test-{secrets.token_hex(4)}"
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_file), "OS_CLOUD": cloud.cloud("octavia")}

    def run(*options: str) -> str:
        command = [sys.executable, str(UPLOAD), str(built), "--tag", name, "--name", name, *options]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    yield run
    for image in cloud.admin.image.images():
        if image.name.startswith(name):
            cloud.admin.image.delete_image(image.id)


def _describe(built: Path, properties: dict[str, str]) -> None:
    about = {"cmdline": "root=LABEL=x", "min_disk": 1, "min_ram": 256, "properties": properties}
    (built / "image.json").write_text(json.dumps(about))


def test_the_same_image_is_uploaded_once_and_another_one_beside_it(upload: Upload, built: Path) -> None:
    first = upload()
    assert upload() == first
    _describe(built, {**PROPERTIES, "tavia_build_id": "two"})
    assert upload() not in ("", first)


def test_it_has_its_tag_limits_and_properties(cloud: OpenStackCloud, upload: Upload) -> None:
    image = cloud.admin.image.get_image(upload())
    assert (image.min_disk, image.min_ram, len(image.tags)) == (1, 256, 1)
    assert (image.hw_rng_model, int(image.os_shutdown_timeout)) == ("virtio", 0)


def test_kernel_and_initrd_apart_are_named_by_the_image(cloud: OpenStackCloud, upload: Upload) -> None:
    image = cloud.admin.image.get_image(upload("--kernel"))
    kinds = [cloud.admin.image.get_image(i).disk_format for i in (image.kernel_id, image.ramdisk_id)]
    assert (kinds, image.os_command_line) == (["aki", "ari"], "root=LABEL=x")
    assert upload("--kernel") == image.id
