"""Heartbeats over a real UDP socket, signed by the real codec: what is taken and what is dropped."""

from __future__ import annotations

import hmac
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleet import beat, open_listener, up

from tavia.amphora.heartbeat import Heartbeat, derive_key, encode, split
from tavia.diagnosis.evidence import Refusal
from tavia.health import inbox as inboxes
from tavia.health.inbox import Inbox, receive
from tavia.model.mark import Mark

KEY = "the deployment's secret"
A, B, C = (str(uuid.uuid4()) for _ in range(3))


class Receiver:
    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=receive, args=(self._socket, inbox, self._stop.is_set))
        self._thread.start()

    def send(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in datagrams:
                sender.sendto(datagram, self._socket.getsockname())

    def send_beats(self, *heartbeats: Heartbeat, key: str = KEY) -> None:
        self.send(*(encode(h, derive_key(key, h.amphora_id)) for h in heartbeats))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    its = Receiver(Inbox(lambda: KEY, {}))
    yield its
    its.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_new_key_counts_at_once_and_the_earlier_one_until_the_next() -> None:
    key = ["first"]
    inbox = Inbox(lambda: key[0], {})

    def takes(seq: int, signed_by: str) -> bool:
        heartbeat = beat(A, seq=seq)
        inbox.put(encode(heartbeat, derive_key(signed_by, A)))
        return bool(inbox.take())

    assert takes(1, "first")
    assert not takes(2, "second")
    key[0] = "second"
    assert takes(3, "first")
    assert takes(4, "second")
    assert takes(5, "first")
    key[0] = "third"
    assert takes(6, "second")
    assert takes(7, "third")
    assert not takes(8, "first")


def test_a_heartbeat_is_kept_until_it_is_taken(receiver: Receiver) -> None:
    receiver.send_beats(beat(A, seq=1), beat(A, seq=2, generation=4))
    eventually(lambda: receiver.inbox._accepted.get(A) == Mark(None, (1, 2)))
    assert receiver.inbox.take()[A].heartbeat.generation == 4
    assert receiver.inbox.take() == {}


def test_a_replay_is_dropped_and_a_reboot_is_none(receiver: Receiver) -> None:
    receiver.send_beats(beat(A, seq=9), beat(A, seq=9), beat(A, seq=3))
    eventually(lambda: receiver.inbox.dropped["replayed"] == 2)
    receiver.send_beats(beat(A, seq=1, boot_count=2))
    eventually(lambda: receiver.inbox._accepted[A] == Mark(None, (2, 1)))
    assert receiver.inbox.take()[A].heartbeat.order == (2, 1)


def test_what_was_recorded_before_a_restart_is_a_replay_after_it() -> None:
    inbox = Inbox(lambda: KEY, {A: Mark(None, (5, 100))})
    inbox.put(encode(beat(A, seq=100, boot_count=5), derive_key(KEY, A)))
    assert inbox.take() == {}
    assert inbox.dropped == {"replayed": 1}


def test_what_is_forged_cut_off_or_noise_is_dropped_and_leaves_nothing_behind(receiver: Receiver) -> None:
    genuine = encode(beat(A), derive_key(KEY, A))
    receiver.send_beats(beat(A), key="a guess")
    receiver.send(genuine[:-1], genuine[:40], b"noise")
    eventually(lambda: receiver.inbox.dropped == {"malformed": 2, "signature": 2})
    assert receiver.inbox.take() == {}
    assert receiver.inbox._keys == {}


def test_one_amphora_cannot_speak_for_another(receiver: Receiver) -> None:
    other = str(uuid.uuid4())
    receiver.send(encode(beat(other), derive_key(KEY, A)))
    eventually(lambda: receiver.inbox.dropped["signature"] == 1)
    assert receiver.inbox.take() == {}


def datagram(amphora_id: str, seq: int = 1, **given: Any) -> bytes:
    return encode(beat(amphora_id, seq=seq, **given), derive_key(KEY, amphora_id))


def test_memory_is_bounded_and_who_was_not_heard_for_longest_makes_room_for_one_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inboxes, "MOST_AMPHORAE", 3)
    first, second, third, fourth = (str(uuid.uuid4()) for _ in range(4))
    inbox = Inbox(lambda: KEY, {first: Mark(None, (1, 0)), second: Mark(None, (1, 0)), third: Mark(None, (1, 0))})
    inbox.put(datagram(first))
    inbox.put(datagram(fourth))
    assert set(inbox.take()) == {first, fourth}
    assert (set(inbox._accepted), inbox.dropped) == ({first, third, fourth}, {})
    for number in range(50):
        inbox.put(datagram(str(uuid.uuid4()), seq=number))
        inbox.put(datagram(first, seq=number, start_id="another-disk"))
        inbox.put(sealed(str(uuid.uuid4()), b"no heartbeat"))
    kept = (inbox._accepted, inbox._waiting, inbox._of_other_disks, inbox._confirmed, inbox._refused, inbox._keys)
    assert all(len(each) <= 3 for each in kept)
    assert set(inbox.take()) == set(inbox._accepted)


def test_with_as_many_amphorae_as_are_kept_a_new_one_is_heard_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MOST_AMPHORAE", 2)
    inbox = Inbox(lambda: KEY, {})
    for _ in range(2):
        for amphora_id in (A, B, C):
            inbox.put(datagram(amphora_id, seq=int(time.monotonic_ns())))
            assert amphora_id in inbox.take()


def sealed(amphora_id: str, content: bytes) -> bytes:
    """What this amphora signs instead of a heartbeat."""
    header = b"TVH1" + uuid.UUID(amphora_id).bytes
    body = zlib.compress(content)
    return header + hmac.digest(derive_key(KEY, amphora_id), header + body, "sha256") + body


def test_one_that_sends_parts_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MAX_ENTRIES", 100)
    inbox = Inbox(lambda: KEY, {})
    for seq in range(30):
        inbox.put(datagram(A, seq, complete=False, pools={"p": up(**{f"m-{seq}-{n}": "UP" for n in range(9)})}))
    assert inbox.take()[A].heartbeat.entries <= 100


def test_what_was_refused_is_known_of_its_amphora_for_a_while_and_until_something_is_taken() -> None:
    now = [0.0]
    inbox = Inbox(lambda: KEY, {A: Mark("disk", (3, 3))}, clock=lambda: now[0])
    inbox.put(datagram(A, start_id="disk"))
    assert inbox.refusal(A, 10) is Refusal.REPLAYED
    inbox.put(datagram(A, start_id="other"))
    assert inbox.refusal(A, 10) is Refusal.START
    inbox.put(sealed(A, b"no heartbeat"))
    assert inbox.refusal(A, 10) is Refusal.MALFORMED
    now[0] += 11
    assert inbox.refusal(A, 10) is None
    inbox.put(sealed(A, b"no heartbeat"))
    inbox.put(datagram(A, boot_count=4, start_id="disk"))
    assert inbox.refusal(A, 10) is None


def test_what_another_disk_says_waits_and_takes_no_place_from_what_is_believed() -> None:
    inbox = Inbox(lambda: KEY, {A: Mark("old", (3, 3))})
    inbox.put(datagram(A, 9, boot_count=9, start_id="new"))
    assert (inbox.take(), inbox.of_other_disks(), inbox.dropped) == ({}, [A], {"start": 1})
    inbox.put(datagram(A, 4, boot_count=3, start_id="old"))
    assert inbox.take()[A].heartbeat.start_id == "old"


def test_from_when_the_agent_confirms_its_new_disk_the_order_begins_anew_and_the_old_one_is_refused() -> None:
    inbox = Inbox(lambda: KEY, {A: Mark("old", (30, 300))})
    replay = datagram(A, 301, boot_count=30, start_id="old")
    inbox.put(datagram(A, 7, boot_count=1, start_id="new"))
    assert inbox.confirm(A, Mark("new", (1, 0)))
    taken = inbox.take()[A]
    assert taken.heartbeat.mark == Mark("new", (1, 7))
    assert inbox.compare(taken, Mark("old", (30, 300)))
    inbox.put(replay)
    inbox.put(datagram(A, 7, boot_count=1, start_id="new"))
    assert inbox.take() == {}
    assert inbox.dropped == {"start": 2, "replayed": 1}
    assert not inbox.confirm(A, Mark("new", (1, 0)))
    assert inbox.of_other_disks() == []


def test_one_that_was_forgotten_is_compared_with_what_the_database_knows() -> None:
    inbox = Inbox(lambda: KEY, {})
    inbox.put(datagram(A, 5, start_id="disk"))
    assert not inbox.compare(inbox.take()[A], Mark("disk", (1, 8)))
    inbox.put(datagram(A, 7, start_id="disk"))
    assert inbox.take() == {}
    inbox.put(datagram(A, 9, start_id="disk"))
    assert inbox.compare(inbox.take()[A], Mark("disk", (1, 8)))
    inbox.forget(A)
    inbox.put(datagram(A, 9, start_id="older"))
    inbox.put(datagram(A, 10, start_id="disk"))
    assert not inbox.compare(inbox.take()[A], Mark("disk", (1, 9)))
    assert inbox.take()[A].heartbeat.start_id == "disk"


def test_what_nobody_foresaw_ends_no_receiver(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    unforeseen: list[None] = []

    def fail(*_: object) -> None:
        unforeseen.append(None)
        raise AssertionError("nobody foresaw it")

    with monkeypatch.context() as broken:
        broken.setattr(receiver.inbox, "_take_in", fail)
        receiver.send_beats(beat(A))
        eventually(lambda: bool(unforeseen))
    receiver.send_beats(beat(A, seq=2))
    eventually(lambda: A in receiver.inbox.take())


def test_what_could_not_be_recorded_waits_on_but_gives_way_to_something_newer() -> None:
    inbox = Inbox(lambda: KEY, {})
    for seq in (1, 2):
        taken = inbox.take()
        inbox.put(encode(beat(A, seq=seq), derive_key(KEY, A)))
        inbox.put_back(taken)
    assert inbox.take()[A].heartbeat.seq == 2
    inbox.put_back({A: taken[A]})
    assert inbox.take()[A].heartbeat.seq == 1


def test_a_heartbeat_too_large_for_a_datagram_is_whole_again_here() -> None:
    members = {str(uuid.uuid4()): "UP" for _ in range(6000)}
    large = beat(A, listeners={"web": open_listener()}, pools={"app:web": up(**members)})
    parts = split(large)
    assert len(parts) > 1
    inbox = Inbox(lambda: KEY, {})
    for part in parts:
        inbox.put(encode(part, derive_key(KEY, A)))
    whole = inbox.take()[A].heartbeat
    assert whole.pools["app:web"].members == members
    assert set(whole.listeners) == {"web"}
    inbox.put(encode(beat(A, seq=99, bundle_hash="next"), derive_key(KEY, A)))
    assert inbox.take()[A].heartbeat.pools == {}
