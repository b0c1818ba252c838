"""The heartbeat's datagram: the agent encodes it, the health manager's receiver decodes it.

Frame: ``TVH1`` (magic and version), the amphora's uuid (16 bytes), HMAC-SHA256 (32 bytes), zlib(JSON). The HMAC covers
all the rest and is checked before anything is decompressed. Its key is one amphora's own (:func:`derive_key`), so an
amphora that was broken into can speak for itself only. Replays are the receiver's to drop, by :attr:`Heartbeat.order`.

What does not fit into a datagram is split (:func:`split`): 64 KiB hold some 2,500 members. Every part is a heartbeat
of its own with ``complete`` false: it says nothing of what it does not name.
"""

from __future__ import annotations

import hmac
import json
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

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


class HeartbeatError(ValueError):
    """A datagram that is no heartbeat of ours; the message is fit for a log line."""


class WrongSignature(HeartbeatError):
    """Signed with another key, or changed on its way."""


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
    """A pool: ``status`` is UP or DOWN; ``members`` are HAProxy's words: UP, DOWN, DRAIN, MAINT, no check."""

    status: str
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What an amphora says of itself.

    ``boot_count`` is kept on the amphora's disk and grows at each start of the agent, ``seq`` grows with each datagram.
    ``generation`` is 0 and ``bundle_hash`` None before the first bundle. ``vrrp_state`` is MASTER, BACKUP, FAULT, or
    None without VRRP; ``peer_seen`` is None when nothing is known of the other amphora. ``haproxy_up`` is true when
    HAProxy should not run at all, too. ``haproxy_restarts`` counts its deaths since the agent's start.
    ``agent_version`` is None from an agent that does not tell it yet. What a newer agent says beside is left alone.
    """

    amphora_id: str
    boot_count: int
    seq: int
    generation: int = 0
    bundle_hash: str | None = None
    vrrp_state: str | None = None
    peer_seen: bool | None = None
    haproxy_up: bool = False
    haproxy_restarts: int = 0
    agent_version: str | None = None
    complete: bool = True
    listeners: Mapping[str, ListenerReport] = field(default_factory=dict)
    pools: Mapping[str, PoolReport] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int]:
        """Grows with every datagram of an amphora: one that is not greater than the last accepted is a replay."""
        return (self.boot_count, self.seq)


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
        raise HeartbeatError(f"amphora {amphora_id} signed what is not a heartbeat: {error!r}") from error


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
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 6)


def _decompressed(body: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(body, MAX_JSON)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("cut off, followed by something, or larger than allowed")
    return content


def _heartbeat(amphora_id: str, content: dict[str, Any]) -> Heartbeat:
    """A broken-into amphora signs what it likes, hence no value is taken as it comes."""
    return Heartbeat(
        amphora_id=amphora_id,
        boot_count=_count(content["boot_count"]),
        seq=_count(content["seq"]),
        generation=_count(content["generation"]),
        bundle_hash=_text(content["bundle_hash"]),
        vrrp_state=_text(content["vrrp_state"]),
        peer_seen=None if content["peer_seen"] is None else bool(content["peer_seen"]),
        haproxy_up=bool(content["haproxy_up"]),
        haproxy_restarts=_count(content["haproxy_restarts"]),
        agent_version=_text(content.get("agent_version")),
        complete=bool(content["complete"]),
        listeners={i: _listener(report) for i, report in content["listeners"].items()},
        pools={i: _pool(report) for i, report in content["pools"].items()},
    )


def _listener(report: dict[str, Any]) -> ListenerReport:
    stats = {each.name: _count(report["stats"][each.name]) for each in fields(ListenerStats)}
    return ListenerReport(status=str(report["status"]), stats=ListenerStats(**stats))


def _pool(report: dict[str, Any]) -> PoolReport:
    return PoolReport(status=str(report["status"]), members={i: str(w) for i, w in report["members"].items()})


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"not a count: {value!r:.40}")
    return value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
