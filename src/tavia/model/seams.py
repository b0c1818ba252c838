"""The seams that a load balancer crosses, and the failures that name them.

Every step, event, fault and verdict carries a :class:`Seam`, so that an operator reads *where* it broke first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Seam(StrEnum):
    """Where something broke, in the order in which a load balancer crosses them."""

    CONTROL = "control"
    BOOT = "boot"
    MGMT_NET = "mgmt-net"
    AGENT = "agent"
    MEMBERS = "members"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an object is in ERROR, or why its change waits: what the API shows as ``fault``.

    ``code`` is stable and meant for programs, ``message`` for people; ``since`` is UTC, ISO 8601, seconds.
    """

    code: str
    seam: Seam
    message: str
    since: str


class SeamError(Exception):
    """A failure inside: it names the seam, a stable code and what the operator can do.

    ``permanent`` is true for a cause that waiting cannot cure (no image, quota): it is shown at once. ``detail`` is
    what a server or a file said, with hosts and users in it: for logs, commands and the journal, never for clients of
    the API.
    """

    def __init__(self, seam: Seam, code: str, message: str, *, permanent: bool = False, detail: str = "") -> None:
        super().__init__(f"{seam}/{code}: {message}" + (f": {detail}" if detail else ""))
        self.seam = seam
        self.code = code
        self.message = message
        self.permanent = permanent
        self.detail = detail

    @property
    def whole(self) -> str:
        """The message with the detail, for the journal: who reads that is of the house."""
        return f"{self.message}: {self.detail}" if self.detail else self.message
