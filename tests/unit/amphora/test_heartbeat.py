"""The heartbeat's datagram: what is sent is what is read, and nothing else is."""

from __future__ import annotations

import hmac
import json
import os
import socket
import uuid
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tavia.amphora import heartbeat as heartbeat_module
from tavia.amphora.heartbeat import (
    HEADER,
    MAX_DATAGRAM,
    OVERHEAD,
    Heartbeat,
    HeartbeatError,
    ListenerReport,
    ListenerStats,
    PoolReport,
    decode,
    derive_key,
    encode,
    split,
)

AMPHORA = "5f2a3c1e-8d46-4f0b-9a57-1c2d3e4f5a6b"
SECRET = "secret of the controllers"
KEY = derive_key(SECRET, AMPHORA)

counts = st.integers(0, 2**63 - 1)
ids = st.uuids().map(str)
stats = st.builds(ListenerStats, tx=counts, rx=counts, conns=counts, totconns=counts, ereq=counts)
listeners = st.dictionaries(
    ids, st.builds(ListenerReport, status=st.sampled_from(["OPEN", "FULL"]), stats=stats), max_size=3
)
words = st.sampled_from(["UP", "DOWN", "DRAIN", "MAINT", "no check"])
pools = st.dictionaries(
    ids,
    st.builds(PoolReport, status=st.sampled_from(["UP", "DOWN"]), members=st.dictionaries(ids, words, max_size=4)),
    max_size=3,
)
printable = st.text([chr(code) for code in range(0x20, 0x7F)], max_size=64)
heartbeats = st.builds(
    Heartbeat,
    amphora_id=st.just(AMPHORA),
    boot_count=counts,
    seq=counts,
    generation=counts,
    start_id=st.none() | ids,
    bundle_hash=st.none() | printable,
    agent_version=st.none() | printable,
    no_carrier=st.none() | st.lists(st.from_regex(r"[0-9A-Za-z_.-]{1,15}", fullmatch=True), max_size=32).map(tuple),
    vrrp_state=st.sampled_from([None, "MASTER", "BACKUP", "FAULT"]),
    peer_seen=st.sampled_from([None, True, False]),
    haproxy_up=st.booleans(),
    haproxy_restarts=counts,
    complete=st.booleans(),
    listeners=listeners,
    pools=pools,
)


def key_for(amphora_id: str) -> bytes:
    return derive_key(SECRET, amphora_id)


def as_signed_json(content: object) -> bytes:
    return signed(zlib.compress(json.dumps(content).encode()))


def signed(body: bytes, amphora_id: str = AMPHORA, key: bytes = KEY) -> bytes:
    header = b"TVH1" + uuid.UUID(amphora_id).bytes
    return header + hmac.digest(key, header + body, "sha256") + body


@given(heartbeats)
def test_what_is_sent_is_what_is_read(heartbeat: Heartbeat) -> None:
    assert decode(encode(heartbeat, KEY), key_for) == heartbeat


def test_it_stands_on_the_wire_like_this() -> None:
    stats = {"tx": 1, "rx": 2, "conns": 3, "totconns": 4, "ereq": 5}
    content = {
        "boot_count": 1,
        "seq": 2,
        "start_id": AMPHORA,
        "generation": 3,
        "bundle_hash": "hash",
        "vrrp_state": "MASTER",
        "peer_seen": True,
        "haproxy_up": True,
        "haproxy_restarts": 4,
        "agent_version": "1.2",
        "no_carrier": ["eth1"],
        "complete": True,
        "listeners": {"web": {"status": "OPEN", "stats": stats}},
        "pools": {"app": {"status": "UP", "members": {"m1": "UP", "m2": "DOWN"}}},
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    heartbeat = decode(signed(zlib.compress(text)), key_for)
    assert heartbeat == Heartbeat(
        amphora_id=AMPHORA,
        boot_count=1,
        seq=2,
        start_id=AMPHORA,
        generation=3,
        bundle_hash="hash",
        vrrp_state="MASTER",
        peer_seen=True,
        haproxy_up=True,
        haproxy_restarts=4,
        agent_version="1.2",
        no_carrier=("eth1",),
        complete=True,
        listeners={"web": ListenerReport(status="OPEN", stats=ListenerStats(**stats))},
        pools={"app": PoolReport(status="UP", members={"m1": "UP", "m2": "DOWN"})},
    )
    body = zlib.compress(text)
    assert encode(heartbeat, KEY) == signed(body)
    added = ("agent_version", "start_id", "no_carrier")
    of_an_old_agent = {key: value for key, value in content.items() if key not in added}
    older = decode(as_signed_json(of_an_old_agent), key_for)
    assert older == replace(heartbeat, agent_version=None, start_id=None, no_carrier=None)
    assert decode(as_signed_json(content | {"of a newer agent": 1}), key_for) == heartbeat


def test_an_agent_without_a_bundle_says_so() -> None:
    heartbeat = Heartbeat(amphora_id=AMPHORA, boot_count=1, seq=2)
    assert (heartbeat.generation, heartbeat.bundle_hash, heartbeat.vrrp_state, heartbeat.peer_seen) == (
        0,
        None,
        None,
        None,
    )
    assert (heartbeat.haproxy_up, heartbeat.haproxy_restarts, heartbeat.agent_version) == (False, 0, None)
    assert (heartbeat.complete, heartbeat.listeners, heartbeat.pools) == (True, {}, {})


def test_the_largest_datagram_is_what_udp_carries() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        assert sender.sendto(bytes(MAX_DATAGRAM), receiver.getsockname()) == MAX_DATAGRAM
        with pytest.raises(OSError, match="too long"):
            sender.sendto(bytes(MAX_DATAGRAM + 1), receiver.getsockname())


@given(heartbeats, st.data())
def test_no_changed_byte_goes_unnoticed(heartbeat: Heartbeat, data: st.DataObject) -> None:
    datagram = bytearray(encode(heartbeat, KEY))
    position = data.draw(st.integers(0, len(datagram) - 1))
    datagram[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(HeartbeatError):
        decode(bytes(datagram), key_for)


@given(heartbeats, st.data())
def test_a_datagram_that_is_cut_off_is_no_heartbeat(heartbeat: Heartbeat, data: st.DataObject) -> None:
    datagram = encode(heartbeat, KEY)
    with pytest.raises(HeartbeatError):
        decode(datagram[: data.draw(st.integers(0, len(datagram) - 1))], key_for)


@given(st.binary(max_size=200))
def test_noise_is_no_heartbeat(noise: bytes) -> None:
    with pytest.raises(HeartbeatError):
        decode(noise, key_for)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_an_amphora_that_signs_nonsense_is_refused_and_nothing_worse(nonsense: object) -> None:
    for content in (nonsense, {"boot_count": nonsense}, json.loads(zlib.decompress(encode(full(), KEY)[OVERHEAD:]))):
        if isinstance(content, dict) and "seq" in content:
            content["listeners"] = {"x": nonsense}
        with pytest.raises(HeartbeatError):
            decode(signed(zlib.compress(json.dumps(content).encode())), key_for)


@pytest.mark.parametrize(
    "body",
    {
        "no zlib": b"no zlib",
        "no JSON": zlib.compress(b"no JSON"),
        "no object": zlib.compress(b"[]"),
        "nothing in it": zlib.compress(b"{}"),
        "nested without end": zlib.compress(b"[" * 200_000),
        "followed by something": zlib.compress(b"{}") + b"!",
    }.items(),
    ids=lambda case: case[0],
)
def test_what_is_signed_but_no_heartbeat_is_refused_as_such(body: tuple[str, bytes]) -> None:
    with pytest.raises(HeartbeatError, match="signed what is not a heartbeat"):
        decode(signed(body[1]), key_for)


@pytest.mark.parametrize("reports", [[], "x", {"x": []}, {"x": {}}, {"x": {"status": "UP", "members": []}}, None])
@pytest.mark.parametrize("kind", ["listeners", "pools"])
def test_reports_of_another_form_are_refused(kind: str, reports: object) -> None:
    content = json.loads(zlib.decompress(encode(full(), KEY)[OVERHEAD:])) | {kind: reports}
    with pytest.raises(HeartbeatError):
        decode(as_signed_json(content), key_for)


@pytest.mark.parametrize("value", [-1, 2**63, True, 1.5, "1", None])
def test_counts_are_natural_numbers_that_a_database_holds(value: object) -> None:
    content = json.loads(zlib.decompress(encode(full(), KEY)[OVERHEAD:])) | {"seq": value}
    with pytest.raises(HeartbeatError):
        decode(signed(zlib.compress(json.dumps(content).encode())), key_for)


def test_one_amphora_cannot_speak_for_another() -> None:
    another = str(uuid.uuid4())
    body = encode(full(), KEY)[OVERHEAD:]
    with pytest.raises(HeartbeatError, match="signature"):
        decode(signed(body, amphora_id=another, key=KEY), key_for)


def test_nothing_is_decompressed_before_the_signature_is_checked() -> None:
    with pytest.raises(HeartbeatError, match="signature"):
        decode(signed(zlib.compress(b"0" * (64 << 20)), key=b"forged"), key_for)


def test_a_bomb_of_an_amphora_s_own_is_not_unpacked() -> None:
    with pytest.raises(HeartbeatError, match="larger"):
        decode(signed(zlib.compress(b"0" * ((1 << 20) + 1))), key_for)


def test_the_order_grows_with_each_datagram_and_over_restarts() -> None:
    orders = [Heartbeat(amphora_id=AMPHORA, boot_count=b, seq=s).order for b, s in ((1, 1), (1, 2), (2, 1))]
    assert orders == sorted(set(orders))


def test_keys_differ_by_amphora_and_by_secret() -> None:
    keys = {derive_key(secret, amphora_id) for secret in ("a", "b") for amphora_id in (AMPHORA, str(uuid.uuid4()))}
    assert len(keys) == 4 and all(len(key) == 32 for key in keys)


def test_the_key_is_hkdfs_of_the_secret_and_the_amphora() -> None:
    extracted = hmac.digest(bytes(32), SECRET.encode(), "sha256")  # RFC 5869, 2.2 and 2.3
    assert hmac.digest(extracted, uuid.UUID(AMPHORA).bytes + b"\x01", "sha256") == KEY


def test_an_id_is_the_same_in_any_case() -> None:
    assert derive_key(SECRET, AMPHORA.upper()) == KEY


def full(members: int = 2) -> Heartbeat:
    reports = {new_id(): ListenerReport(status="OPEN", stats=ListenerStats(tx=1, rx=2, conns=3, totconns=4, ereq=5))}
    pool = PoolReport(status="UP", members={new_id(): "UP" for _ in range(members)})
    empty = PoolReport(status="DOWN")
    return Heartbeat(amphora_id=AMPHORA, boot_count=1, seq=5, listeners=reports, pools={"big": pool, "empty": empty})


def new_id() -> str:
    return str(uuid.UUID(bytes=os.urandom(16)))


def test_what_fits_is_one_complete_datagram() -> None:
    heartbeat = full()
    assert split(heartbeat) == (heartbeat,) and heartbeat.complete


def test_what_is_one_byte_too_large_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = full()
    size = len(encode(heartbeat, KEY))
    monkeypatch.setattr(heartbeat_module, "MAX_DATAGRAM", size)
    assert len(split(heartbeat)) == 1
    monkeypatch.setattr(heartbeat_module, "MAX_DATAGRAM", size - 1)
    assert len(split(heartbeat)) > 1


def test_ten_thousand_members_are_told_in_parts_that_lose_nothing() -> None:
    heartbeat = full(10_000)
    parts = split(heartbeat)
    assert all(len(encode(part, KEY)) <= MAX_DATAGRAM for part in parts)
    assert [part.seq for part in parts] == list(range(5, 5 + len(parts))) and len(parts) > 1
    assert not any(part.complete for part in parts)
    told = [(i, w) for part in parts for report in part.pools.values() for i, w in report.members.items()]
    assert sorted(told) == sorted(heartbeat.pools["big"].members.items())
    assert {"big", "empty"} == {pool_id for part in parts for pool_id in part.pools}
    assert {i for part in parts for i in part.listeners} == set(heartbeat.listeners)
    assert {part.pools["big"].status for part in parts if "big" in part.pools} == {"UP"}


def test_the_header_names_the_amphora() -> None:
    assert encode(full(), KEY)[4:HEADER] == uuid.UUID(AMPHORA).bytes
