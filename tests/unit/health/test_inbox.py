"""Heartbeats over a real UDP socket, signed by the real codec: what is taken and what is dropped."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from fleet import beat, open_listener, up

from tavia.amphora.heartbeat import Heartbeat, derive_key, encode, split
from tavia.health import inbox as inboxes
from tavia.health.inbox import Inbox, receive

KEY = "the deployment's secret"
A = str(uuid.uuid4())


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
    eventually(lambda: receiver.inbox._accepted.get(A) == (1, 2))
    assert receiver.inbox.take()[A].heartbeat.generation == 4
    assert receiver.inbox.take() == {}


def test_a_replay_is_dropped_and_a_reboot_is_none(receiver: Receiver) -> None:
    receiver.send_beats(beat(A, seq=9), beat(A, seq=9), beat(A, seq=3))
    eventually(lambda: receiver.inbox.dropped["replayed"] == 2)
    receiver.send_beats(beat(A, seq=1, boot_count=2))
    eventually(lambda: receiver.inbox._accepted[A] == (2, 1))
    assert receiver.inbox.take()[A].heartbeat.order == (2, 1)


def test_what_was_recorded_before_a_restart_is_a_replay_after_it() -> None:
    inbox = Inbox(lambda: KEY, {A: (5, 100)})
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


def test_memory_is_bounded_by_a_number_of_amphorae(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MOST_AMPHORAE", 2)
    inbox = Inbox(lambda: KEY, {})
    for _ in range(3):
        amphora_id = str(uuid.uuid4())
        inbox.put(encode(beat(amphora_id), derive_key(KEY, amphora_id)))
    assert len(inbox.take()) == 2
    assert inbox.dropped == {"full": 1}


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
