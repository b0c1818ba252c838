"""The heartbeat's datagram: the agent encodes it, the health manager's receiver decodes it.

Frame: ``TVH1`` (magic and version), the amphora's uuid (16 bytes), HMAC-SHA256 (32 bytes), zlib(JSON). The HMAC covers
all the rest and is checked before anything is decompressed. Its key is one amphora's own (:func:`derive_key`), so an
amphora that was broken into can speak for itself only. It signs what it likes, so what is read here can be written into
any database and understood, or it is no heartbeat: closed sets of words, printable ASCII, bounded numbers. Replays are
the receiver's to drop, by :attr:`Heartbeat.mark`.

What does not fit into a datagram is split (:func:`split`): 64 KiB hold some 2,500 members. Every part is a heartbeat
of its own with ``complete`` false: it says nothing of what it does not name.
"""

from __future__ import annotations

import hmac
import json
import re
import uuid
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from tavia.model.mark import Mark

T = TypeVar("T")

MAGIC = b"TVH1"
DIGEST = "sha256"
HEADER = len(MAGIC) + 16
OVERHEAD = HEADER + 32
MAX_DATAGRAM = 65507
"""The largest UDP payload over IPv4, bytes."""
MAX_JSON = 1 << 20
"""The most that a datagram may decompress to, bytes: twice what the largest real one does."""

MAX_COUNT = 2**63 - 1
"""What a database's BIGINT holds."""
MAX_TEXT = 64
"""Characters of a hash or a version."""
MAX_INTERFACES = 32
MAX_ENTRIES = 50_000
"""Listeners, pools and members of one amphora in all."""

LISTENER_WORDS = frozenset({"OPEN", "FULL"})
POOL_WORDS = frozenset({"UP", "DOWN"})
MEMBER_WORDS = frozenset({"UP", "DOWN", "DRAIN", "MAINT", "NOLB", "no check"})
VRRP_STATES = frozenset({"MASTER", "BACKUP", "FAULT"})

ID = re.compile(r"[0-9A-Za-z_-]{1,36}")
INTERFACE = re.compile(r"[0-9A-Za-z_.-]{1,15}")
POOL_KEY = re.compile(rf"{ID.pattern}(:{ID.pattern})?")


class HeartbeatError(ValueError):
    """A datagram that is no heartbeat of ours; the message is fit for a log line."""


class WrongSignature(HeartbeatError):
    """Signed with another key, or changed on its way."""


class Malformed(HeartbeatError):
    """An amphora signed what is no heartbeat."""

    def __init__(self, amphora_id: str, why: Exception) -> None:
        super().__init__(f"amphora {amphora_id} signed what is not a heartbeat: {why!r:.300}")
        self.amphora_id = amphora_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStats:
    """Traffic of a listener: bytes out and in, current connections, all connections, request errors.

    All but ``conns`` only grow for as long as the amphora is not rebooted (``boot_count`` may grow without that).
    """

    tx: int
    rx: int
    conns: int
    totconns: int
    ereq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerReport:
    """A listener that HAProxy serves: ``status`` is OPEN, or FULL when it is at its connection limit."""

    status: str
    stats: ListenerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """A pool: ``status`` is UP or DOWN; ``members`` are HAProxy's words, of :data:`MEMBER_WORDS`."""

    status: str
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What an amphora says of itself.

    ``start_id`` is made by the agent at random on a disk that has none, and tells a new disk from the one before.
    ``boot_count`` is kept there too and grows at each start of the agent, ``seq`` grows with each datagram.
    ``generation`` is 0 and ``bundle_hash`` None before the first bundle. ``vrrp_state`` is MASTER, BACKUP, FAULT, or
    None without VRRP; ``peer_seen`` is None when nothing is known of the other amphora. ``haproxy_up`` is true when
    HAProxy should not run at all, too. ``haproxy_restarts`` counts its deaths since the agent's start.
    ``no_carrier`` names the interfaces of its bundle that carry nothing, whatever runs behind them.
    ``start_id``, ``agent_version`` and ``no_carrier`` are None from an agent that does not tell them yet. What a newer
    agent says beside is left alone.
    """

    amphora_id: str
    boot_count: int
    seq: int
    start_id: str | None = None
    generation: int = 0
    bundle_hash: str | None = None
    vrrp_state: str | None = None
    peer_seen: bool | None = None
    haproxy_up: bool = False
    haproxy_restarts: int = 0
    agent_version: str | None = None
    no_carrier: tuple[str, ...] | None = None
    complete: bool = True
    listeners: Mapping[str, ListenerReport] = field(default_factory=dict)
    pools: Mapping[str, PoolReport] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int]:
        """Grows with every datagram that is sent from one disk."""
        return (self.boot_count, self.seq)

    @property
    def mark(self) -> Mark:
        """One that does not follow the last accepted is a replay, or of another disk."""
        return Mark(self.start_id, self.order)

    @property
    def entries(self) -> int:
        """Listeners, pools and members that it names."""
        return len(self.listeners) + len(self.pools) + sum(len(pool.members) for pool in self.pools.values())


def derive_key(heartbeat_key: str, amphora_id: str) -> bytes:
    """One amphora's key (HKDF, RFC 5869). For controllers: the agent holds its own key only, and no cryptography."""
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - not installed in an amphora
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(SHA256(), length=32, salt=None, info=uuid.UUID(amphora_id).bytes).derive(heartbeat_key.encode())


def encode(heartbeat: Heartbeat, key: bytes) -> bytes:
    """The datagram of a heartbeat, which must fit (see :func:`split`)."""
    header = MAGIC + uuid.UUID(heartbeat.amphora_id).bytes
    body = _body(heartbeat)
    return header + hmac.digest(key, header + body, DIGEST) + body


def decode(datagram: bytes, key_for: Callable[[str], bytes]) -> Heartbeat:
    """Check and read a datagram; ``key_for`` derives the key of the amphora that it claims to come from.

    Raises HeartbeatError for what is forged, cut off, too large or malformed.
    """
    header, signature, body = datagram[:HEADER], datagram[HEADER:OVERHEAD], datagram[OVERHEAD:]
    if not header.startswith(MAGIC) or not body:
        raise HeartbeatError("not a heartbeat of this version")
    amphora_id = str(uuid.UUID(bytes=header[len(MAGIC) :]))
    if not hmac.compare_digest(signature, hmac.digest(key_for(amphora_id), header + body, DIGEST)):
        raise WrongSignature(f"wrong signature on a heartbeat that names amphora {amphora_id}")
    try:
        return _heartbeat(amphora_id, json.loads(_decompressed(body)))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(amphora_id, error) from error


def split(heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
    """The heartbeat in as many parts as it takes for each to fit into a datagram; ``seq`` counts on from its own."""
    return tuple(replace(part, seq=heartbeat.seq + n) for n, part in enumerate(_parts(heartbeat)))


def _parts(heartbeat: Heartbeat) -> list[Heartbeat]:
    if len(_body(heartbeat)) + OVERHEAD <= MAX_DATAGRAM:
        return [heartbeat]
    listeners = list(heartbeat.listeners)
    members = [(i, member) for i, pool in heartbeat.pools.items() for member in pool.members.items() or [None]]
    cut, member_cut = len(listeners) // 2, len(members) // 2
    first = _only(heartbeat, listeners[:cut], members[:member_cut])
    second = _only(heartbeat, listeners[cut:], members[member_cut:])
    return _parts(first) + _parts(second)


def _only(heartbeat: Heartbeat, listeners: list[str], members: list[tuple[str, tuple[str, str] | None]]) -> Heartbeat:
    pools: dict[str, dict[str, str]] = {}
    for pool_id, member in members:
        pools.setdefault(pool_id, {}).update([member] if member else [])
    return replace(
        heartbeat,
        complete=False,
        listeners={listener_id: heartbeat.listeners[listener_id] for listener_id in listeners},
        pools={i: PoolReport(status=heartbeat.pools[i].status, members=part) for i, part in pools.items()},
    )


def _body(heartbeat: Heartbeat) -> bytes:
    content = asdict(heartbeat)
    del content["amphora_id"]
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode())


def _decompressed(body: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(body, MAX_JSON)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("cut off, followed by something, or larger than allowed")
    return content


def _heartbeat(amphora_id: str, content: dict[str, Any]) -> Heartbeat:
    """A broken-into amphora signs what it likes, hence no value is taken as it comes."""
    heartbeat = Heartbeat(
        amphora_id=amphora_id,
        boot_count=_count(content["boot_count"]),
        seq=_count(content["seq"]),
        start_id=_optional(_id, content.get("start_id")),
        generation=_count(content["generation"]),
        bundle_hash=_optional(_ascii, content["bundle_hash"]),
        vrrp_state=_optional(_one_of(VRRP_STATES), content["vrrp_state"]),
        peer_seen=_optional(_flag, content["peer_seen"]),
        haproxy_up=_flag(content["haproxy_up"]),
        haproxy_restarts=_count(content["haproxy_restarts"]),
        agent_version=_optional(_ascii, content.get("agent_version")),
        no_carrier=_optional(_interfaces, content.get("no_carrier")),
        complete=_flag(content["complete"]),
        listeners={_id(i): _listener(report) for i, report in content["listeners"].items()},
        pools={_pool_key(i): _pool(report) for i, report in content["pools"].items()},
    )
    if heartbeat.entries > MAX_ENTRIES:
        raise ValueError(f"{heartbeat.entries} listeners, pools and members")
    return heartbeat


def _listener(report: dict[str, Any]) -> ListenerReport:
    stats = {each.name: _count(report["stats"][each.name]) for each in fields(ListenerStats)}
    return ListenerReport(status=_one_of(LISTENER_WORDS)(report["status"]), stats=ListenerStats(**stats))


def _pool(report: dict[str, Any]) -> PoolReport:
    members = {_id(i): _member_word(word) for i, word in report["members"].items()}
    return PoolReport(status=_one_of(POOL_WORDS)(report["status"]), members=members)


def _member_word(value: Any) -> str:
    """Without how far a transition is (``UP 1/3``) and why (``MAINT (resolution)``)."""
    if value in MEMBER_WORDS:
        return str(value)
    return _one_of(MEMBER_WORDS)(_ascii(value).partition(" ")[0])


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"not a count: {value!r:.40}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"not true or false: {value!r:.40}")
    return value


def _ascii(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT or not (value.isascii() and value.isprintable()):
        raise ValueError(f"not at most {MAX_TEXT} printable characters: {value!r:.40}")
    return value


def _id(value: Any) -> str:
    if type(value) is not str or not ID.fullmatch(value):
        raise ValueError(f"not an id: {value!r:.40}")
    return value


def _interfaces(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > MAX_INTERFACES:
        raise ValueError(f"not at most {MAX_INTERFACES} interfaces: {value!r:.80}")
    return tuple(_interface(name) for name in value)


def _interface(value: Any) -> str:
    if type(value) is not str or not INTERFACE.fullmatch(value):
        raise ValueError(f"not an interface's name: {value!r:.40}")
    return value


def _pool_key(value: Any) -> str:
    if not POOL_KEY.fullmatch(value):
        raise ValueError(f"not <pool id>:<listener id>, nor <pool id>: {value!r:.80}")
    return str(value)


def _one_of(words: Collection[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"none of {', '.join(sorted(words))}: {value!r:.40}")
        return str(value)

    return read
