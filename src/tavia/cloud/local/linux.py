"""The system calls that Python has no function for. Numbers are from the kernel's ``include/uapi/linux``."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
"""sched.h"""
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 24, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2)"""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


OWN_NETWORK = Path("/proc/thread-self/ns/net")
"""The network namespace of whoever opens it."""


def enter_network(path: Path) -> None:
    """Move the calling thread into a network namespace, setns(2)."""
    with path.open("rb") as namespace:
        _enter(namespace.fileno())


@contextmanager
def in_network(namespace: int) -> Iterator[None]:
    """The calling thread is in the network namespace of this descriptor, and back where it was afterwards."""
    with OWN_NETWORK.open("rb") as own:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(own.fileno())


def _enter(namespace: int) -> None:
    _check(_libc.setns(namespace, NEWNET), "setns")


def mount(source: str, target: Path, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """mount(2)"""
    _check(
        _libc.mount(
            source.encode(), bytes(target), kind and kind.encode(), ctypes.c_ulong(flags), options and options.encode()
        ),
        f"mount {source} on {target}",
    )


def bind(source: Path, target: Path, flags: int = 0) -> None:
    """Show ``source`` at ``target`` too; the flags need a second call, mount(2) ignores them in the first."""
    mount(str(source), target, flags=MS_BIND)
    mount("none", target, flags=MS_BIND | MS_REMOUNT | flags)


def pivot_into(root: Path) -> None:
    """Make ``root`` the root and let go of the old one, pivot_root(2), "pivot_root('.', '.')"."""
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), f"pivot_root {root}")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def become_subreaper() -> None:
    """Descendants whose parent ends become our children, prctl(2)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "child subreaper")


def keep_capabilities(keep: frozenset[int]) -> None:
    """Give up all capabilities but these, for this process and everything it will ever start, capabilities(7)."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in set(range(last + 1)) - keep:
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), f"drop capability {capability}")
    mask = sum(1 << capability for capability in keep)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
