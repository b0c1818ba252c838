"""Drives one embedded instance by its commands, and finds what is left of it on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import forked

from tavia.cli.embedded import Embedded
from tavia.cloud.local import cgroups, processes
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.local.networks import DEMO_NET

PROGRAMS = Path(sys.executable).parent


@dataclass
class Driver:
    """Runs commands against one instance."""

    embedded: Embedded

    def tavia(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAMS / "tavia"), *words, "--state-dir", str(self.embedded.state_dir)]
        return _checked(subprocess.run(command, capture_output=True, text=True, timeout=200, check=False), ok)

    def openstack(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return _checked(forked.openstack(self.embedded.clouds_file, "tavia", *words), ok)

    def pids(self) -> set[int]:
        """Every process of the instance, found by cgroup and by network namespace."""
        found = cgroups.pids(self.embedded.instance.fabric)
        for name in self.embedded.instance.namespaces:
            found |= set(processes.in_network(NETNS_DIR / name))
        return found

    def demo_subnet_id(self) -> str:
        """Where VIPs go; there once it is up."""
        networks = self.embedded.cloud.networks()
        return next(network.subnet_ids[0] for network in networks if network.name == DEMO_NET)

    def remains(self) -> list[str]:
        """What of the instance is left on this machine."""
        instance = self.embedded.instance
        groups = [str(h.root / instance.fabric) for h in cgroups.hierarchies() if (h.root / instance.fabric).exists()]
        files = [str(path) for path in (instance.state_dir, self.embedded.clouds_file) if path.exists()]
        return [*instance.namespaces, *map(str, self.pids()), *groups, *files]


def _checked(ran: subprocess.CompletedProcess[str], ok: bool) -> subprocess.CompletedProcess[str]:
    assert not ok or ran.returncode == 0, f"{ran.args}:\n{ran.stdout}{ran.stderr}"
    return ran


@contextmanager
def driving(state_dir: Path) -> Iterator[Driver]:
    """Whatever happened to the instance, ``tavia down`` must leave nothing of it behind."""
    driver = Driver(Embedded.of(state_dir))
    try:
        yield driver
    finally:
        driver.tavia("down")
        assert driver.remains() == []
