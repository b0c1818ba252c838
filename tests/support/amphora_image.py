"""The amphora image that ``make image`` built, in the Glance of a test's cloud, under a tag of the test's own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openstack_cloud import CHECKOUT, OpenStackCloud

IMAGE = Path(os.environ.get("TAVIA_TEST_IMAGE", CHECKOUT / ".tavia" / "image"))
UPLOAD = CHECKOUT / "deploy" / "image" / "upload.py"


@contextmanager
def uploaded(cloud: OpenStackCloud) -> Iterator[str]:
    """The tag of the image, with kernel and initrd apart, as the test cloud wants it; all is gone afterwards."""
    tag = f"tavia-test-{secrets.token_hex(4)}"
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_file), "OS_CLOUD": cloud.cloud("octavia")}
    apart = ("--kernel",) if cloud.directory is not None else ()
    try:
        subprocess.run(
            [sys.executable, str(UPLOAD), str(IMAGE), *apart, "--tag", tag, "--name", tag], env=environment, check=True
        )
        yield tag
    finally:
        glance = cloud.admin.image
        for image in glance.images():
            if image.name.startswith(tag):
                glance.delete_image(image.id)
