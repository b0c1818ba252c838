"""Upload the amphora image that ``make image`` made to the Glance of ``OS_CLOUD``, and print its id.

``--kernel`` uploads the root file system with kernel and initrd as images of their own, for a cloud that boots those;
without it the disk image, which has a boot loader. What is there already is not uploaded again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import openstack


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=Path(".tavia/image"), help="default: %(default)s")
    parser.add_argument("--kernel", action="store_true", help="kernel, initrd and root file system apart")
    parser.add_argument("--tag", default="amphora", help="[controller_worker] amp_image_tag; default: %(default)s")
    parser.add_argument("--name", default="tavia-amphora", help="name of the image; default: %(default)s")
    asked = parser.parse_args()
    try:
        built = json.loads((asked.directory / "image.json").read_text())
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}: run make image first")
    glance, properties = openstack.connect(), dict(built["properties"])
    if asked.kernel:
        for name, kind in (("kernel", "aki"), ("ramdisk", "ari")):
            file = asked.directory / {"kernel": "vmlinuz", "ramdisk": "initrd"}[name]
            image = _uploaded(glance, f"{asked.name}-{name}", file, kind, kind, meta=dict(built["properties"]))
            properties[f"{name}_id"] = image.id
        properties["os_command_line"] = built["cmdline"]
    file = asked.directory / ("rootfs.qcow2" if asked.kernel else "amphora.qcow2")
    limits = {"min_disk": built["min_disk"], "min_ram": built["min_ram"]}
    image = _uploaded(glance, asked.name, file, "qcow2", "bare", meta=properties, tags=[asked.tag], **limits)
    sys.stdout.write(f"{image.id}\n")


def _uploaded(
    glance: Any, name: str, file: Path, disk: str, container: str, *, meta: dict[str, str], **more: Any
) -> Any:
    """The image of this name with these properties; uploaded when there is none."""
    for found in glance.image.images(name=name, status="active", tag=more.get("tags", [])):
        seen = {**found.to_dict(), **(found.properties or {})}
        # the SDK makes numbers of some
        if all(str(seen.get(key)) == value for key, value in meta.items()):
            return found
    began = time.monotonic()
    made = glance.create_image(
        name, filename=str(file), disk_format=disk, container_format=container, meta=meta, wait=True, timeout=3600,
        use_import=False, validate_checksum=False, **more,
    )  # fmt: skip
    sys.stderr.write(f"==> {name}: {file.stat().st_size >> 20} MiB uploaded in {time.monotonic() - began:.0f} s\n")
    return made


if __name__ == "__main__":
    main()
