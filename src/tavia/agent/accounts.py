"""Whom a program of the amphora runs as: a user of its own, with what it needs of the agent's capabilities.

So who breaks into one, as a tenant's client might, reads neither the agent's keys nor another program's files, and
signals neither. What a program has to read belongs to its group; what it writes it writes where only its group may.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tavia.amphora.protocol import AgentFailed

SETPRIV = "/usr/bin/setpriv"

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the amphora, with a group of the same name. ``capabilities`` as in setpriv(1)."""

    user: str
    capabilities: tuple[str, ...] = ()

    @property
    def uid(self) -> int:
        """Raises AgentFailed."""
        return self._entry.pw_uid

    @property
    def gid(self) -> int:
        """Raises AgentFailed."""
        return self._entry.pw_gid

    def running(self, *command: str) -> list[str]:
        """The command that runs another as this user, for good: it becomes nobody else."""
        kept = ",".join(["-all", *(f"+{name}" for name in self.capabilities)])
        become = ["--reuid", self.user, "--regid", self.user, "--clear-groups", "--no-new-privs"]
        return [SETPRIV, *become, "--inh-caps", kept, "--ambient-caps", kept, "--", *command]

    def give(self, path: Path, mode: int) -> None:
        """Make a file or directory of the agent's its group's too. ``mode`` says what that, and everybody, may do."""
        os.chown(path, -1, self.gid)
        path.chmod(mode)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Files are opened as this user meanwhile, setfsuid(2): the agent need not be let into everything for that."""
        own = os.geteuid()
        _libc.setfsuid(self.uid)
        try:
            yield
        finally:
            _libc.setfsuid(own)

    @property
    def _entry(self) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            raise AgentFailed("user-missing", f"this amphora has no user {self.user}: boot a newer image") from None
