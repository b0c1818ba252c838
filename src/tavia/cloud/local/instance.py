"""Where one instance of the local cloud keeps its things, and how it names what it makes in the kernel.

Everything is derived from the state directory's absolute path, so two instances on one machine never collide and a
daemon that starts again finds what it made before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

NETNS_DIR = Path("/run/netns")
"""Where ``ip netns`` keeps named network namespaces (ip-netns(8))."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Paths and names of the instance whose state directory this is. Make it with :meth:`of`."""

    state_dir: Path

    @classmethod
    def of(cls, state_dir: Path) -> Instance:
        """The instance of this directory, which need not exist yet."""
        return cls(state_dir.resolve())

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that tell instances apart."""
        return hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]

    @property
    def fabric(self) -> str:
        """The network namespace that holds the bridges; also the name of the instance's cgroup."""
        return f"tavia-{self.id}"

    def host_namespace(self, name: str) -> str:
        """The network namespace of an attached host."""
        return f"{self.fabric}-{name}"

    @property
    def namespaces(self) -> list[str]:
        """The instance's named network namespaces that exist now: the fabric's and the attached hosts'."""
        found = (path.name for path in NETNS_DIR.glob(f"{self.fabric}*"))
        return [name for name in found if name == self.fabric or name.startswith(f"{self.fabric}-")]

    @property
    def socket(self) -> Path:
        """The daemon's unix socket."""
        return self.state_dir / "local-cloud.sock"

    @property
    def directory(self) -> Path:
        """The daemon's records, and the servers' disks."""
        return self.state_dir / "local-cloud"

    def server_directory(self, server_id: str) -> Path:
        """A server's disk and console log."""
        return self.directory / "disks" / server_id
