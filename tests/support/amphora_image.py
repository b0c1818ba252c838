"""The amphora image that ``make image`` built, in the Glance of a test's cloud, under a tag of the test's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from openstack_cloud import CHECKOUT, OpenStackCloud

IMAGE = Path(os.environ.get("TAVIA_TEST_IMAGE", CHECKOUT / ".tavia" / "image"))
"""The folder with kernel, initrd and root disk."""


@contextmanager
def uploaded(cloud: OpenStackCloud) -> Iterator[str]:
    """The tag of the image, which is gone afterwards."""
    tag = f"tavia-test-{secrets.token_hex(4)}"
    with ExitStack() as cleanup:

        def upload(file: str, kind: str, **properties: Any) -> Any:
            made = cloud.admin.create_image(
                f"{tag}-{file}",
                filename=str(IMAGE / file),
                container_format=kind if kind in ("aki", "ari") else "bare",
                disk_format=kind,
                wait=True,
                timeout=600,
                validate_checksum=False,
                **properties,
            )
            cleanup.callback(cloud.admin.image.delete_image, made.id)
            return made

        kernel, initrd = upload("vmlinuz", "aki"), upload("initrd", "ari")
        command_line = (IMAGE / "cmdline").read_text().strip()
        boots = {"kernel_id": kernel.id, "ramdisk_id": initrd.id, "os_command_line": command_line}
        upload("root.qcow2", "qcow2", tags=[tag], meta={**boots, "hw_rng_model": "virtio"})
        yield tag
