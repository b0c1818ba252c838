"""The bundle: everything that an amphora needs to serve, with the fence that orders bundles.

The worker makes one, the agent takes it (``PUT /bundle``) and keeps it on its disk. JSON on the wire::

    {"amphora_id": uuid, "loadbalancer_id": uuid, "generation": int,
     "fence": {"epoch": int, "serial": int, "owner": str},
     "files": {name: text}, "hash": hexadecimal,
     "interfaces": [{"name": "eth1", "mac": ..., "mtu": int, "addresses": ["192.0.2.5/24"], "vips": ["192.0.2.9/24"],
                     "routes": [["0.0.0.0/0", "192.0.2.1"]]}]}

An agent leaves alone what it does not know but file names: a newer controller may add keys that an older one can do
without. Each file's name is of a kind (:data:`KINDS`). Two bundles with equal hashes ask for the same amphora: who
makes a bundle makes the ``hash``, of all that is asked for, and an agent tells the one that it was given, since it need
not know every key. Bundles of before the hash travelled hold files and interfaces and nothing else to make it of.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tavia.amphora.heartbeat import MAX_COUNT


class ProgramFile(StrEnum):
    """The configuration of one of the amphora's programs. A bundle without it says that the program is not to run."""

    HAPROXY = "haproxy.cfg"
    KEEPALIVED = "keepalived.conf"


KINDS: Mapping[str, re.Pattern[str]] = {
    "program configuration": re.compile("|".join(re.escape(name) for name in ProgramFile)),
}
"""The kinds of files that a bundle may hold, and what their names are, wholly. A kind more is a line more."""


LONGEST_OWNER = 64


class BundleError(ValueError):
    """A bundle that cannot be taken: the message names the key, the value and what is allowed."""


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """Orders bundles: by epoch, then serial. Only the lease holder of an epoch may use it, hence the owner."""

    epoch: int
    serial: int
    owner: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Fence:
        """From JSON; what a newer version has beside these three is left alone.

        Raises KeyError, TypeError, and ValueError for what no controller wrote.
        """
        epoch, serial, owner = data["epoch"], data["serial"], data["owner"]
        numbers_fit = all(type(number) is int and 0 <= number <= MAX_COUNT for number in (epoch, serial))
        if not numbers_fit or not isinstance(owner, str) or len(owner) > LONGEST_OWNER:
            raise ValueError(f"fence: numbers of 0 to {MAX_COUNT} and an owner of {LONGEST_OWNER} characters at most")
        return cls(epoch, serial, owner)

    def refuses(self, offered: Fence) -> bool:
        """Whether an agent that holds this fence refuses a bundle under ``offered``.

        An earlier one is refused, and so is an equal epoch of another owner.
        """
        if offered.epoch == self.epoch:
            return offered.owner != self.owner or offered.serial < self.serial
        return offered.epoch < self.epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of the amphora, found by its MAC address and named ``name``.

    ``addresses`` are its own, with prefix length; ``vips`` the ones a single amphora adds by itself (VRRP adds them
    otherwise); ``routes`` are (destination, next hop).
    """

    name: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    vips: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """See the module's text."""

    amphora_id: str
    loadbalancer_id: str
    generation: int
    fence: Fence
    files: Mapping[str, str]
    interfaces: tuple[Interface, ...]
    hash: str = ""
    """SHA-256, hexadecimal, of what is asked for (not of who asks, nor of the generation); made here if not given."""

    def __post_init__(self) -> None:
        """Make the hash, where this is the bundle's beginning."""
        if not self.hash:
            content = {"files": dict(self.files), "interfaces": [asdict(i) for i in self.interfaces]}
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            object.__setattr__(self, "hash", digest)

    def to_json(self) -> bytes:
        """The wire and disk form."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Bundle:
        """Read the wire form. Raises BundleError, also for a file name that is of no kind."""
        try:
            data: dict[str, Any] = json.loads(raw)
            bundle = cls(
                amphora_id=data["amphora_id"],
                loadbalancer_id=data["loadbalancer_id"],
                generation=int(data["generation"]),
                fence=Fence.of(data["fence"]),
                files=dict(data["files"]),
                interfaces=tuple(_interface(i) for i in data["interfaces"]),
                hash=str(data.get("hash", "")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"not a bundle: {error!r}") from error
        unknown = [name for name in bundle.files if not any(names.fullmatch(name) for names in KINDS.values())]
        if unknown:
            allowed = ", ".join(f"{kind} ({names.pattern})" for kind, names in KINDS.items())
            raise BundleError(f"files: {sorted(unknown)} not allowed; allowed are {allowed}")
        return bundle


def _interface(data: dict[str, Any]) -> Interface:
    return Interface(
        name=data["name"],
        mac=data["mac"],
        mtu=int(data["mtu"]),
        addresses=tuple(data["addresses"]),
        vips=tuple(data["vips"]),
        routes=tuple((destination, next_hop) for destination, next_hop in data["routes"]),
    )
