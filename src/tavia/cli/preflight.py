"""What this machine must have before Tavia starts on it. ``tavia up`` asks; each answer says what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tavia.model.seams import Seam, SeamError

PACKAGES = {
    "haproxy": "haproxy",
    "keepalived": "keepalived",
    "ip": "iproute2",
    "nft": "nftables",
    "arping": "iputils-arping",
    "nsenter": "util-linux",
}
"""Program -> the Debian package that has it."""

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""Bits in ``CapEff`` of /proc/self/status, capabilities(7)."""

_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where ``su`` without a login shell doesn't look."""


def search_path() -> str:
    """PATH with the system's program directories behind it."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_DIRECTORIES}"


def check() -> None:
    """Raises SeamError that names everything missing at once."""
    missing = [*_missing_rights(), *_missing_programs(search_path())]
    if missing:
        raise SeamError(Seam.CONTROL, "machine-not-ready", "\n  ".join(["this machine is not ready:", *missing]))


def _missing_rights() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "root is needed to make network namespaces: run this as root"
        return
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    held = int(effective.split()[1], 16)
    for name, bit in _CAPABILITIES.items():
        if not held >> bit & 1:
            yield f"root here lacks {name}, needed to make network namespaces: in a container, run it privileged"


def _missing_programs(path: str) -> Iterator[str]:
    packages = [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]
    if packages:
        yield f"programs are missing: apt-get install {' '.join(packages)}"
