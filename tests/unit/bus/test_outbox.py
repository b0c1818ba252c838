"""Who hands over a message never waits, whatever the message bus does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from tavia.bus import outbox
from tavia.bus.outbox import Outbox


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "AGAIN_AFTER", 0.0)
    monkeypatch.setattr(outbox, "SILENT_AFTER", 0.0)


def test_messages_are_sent_in_their_order() -> None:
    sent: list[int] = []
    box = Outbox("numbers", sent.append, limit=100)
    assert all(box.offer(number) for number in range(100))
    assert box.drain(20.0)
    assert sent == list(range(100))


def test_a_burst_is_one_message_while_another_is_on_its_way() -> None:
    gate, sent = threading.Event(), []

    def send(message: str) -> None:
        gate.wait()
        sent.append(message)

    box = Outbox("wake-ups", send, limit=1)
    for _ in range(1000):
        box.offer("wake")
    gate.set()
    assert box.drain(20.0)
    assert 1 <= len(sent) <= 2


def test_what_finds_no_room_is_lost_at_once_and_the_rest_is_sent() -> None:
    gate, begun, sent = threading.Event(), threading.Event(), []

    def send(message: int) -> None:
        begun.set()
        gate.wait()
        sent.append(message)

    box = Outbox("numbers", send, limit=2)
    assert box.offer(0)
    assert begun.wait(20.0)
    assert [box.offer(number) for number in (1, 2, 3)] == [True, True, False]
    assert not box.drain(0.01)
    gate.set()
    assert box.drain(20.0)
    assert sent == [0, 1, 2]


@pytest.mark.usefixtures("impatient")
def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Callable[[], None]] = [_fail] * 50 + [lambda: None] * 50
    box: Outbox[None] = Outbox("wake-ups", lambda _: answers.pop(0)(), limit=100)
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            box.offer(None)
        assert box.drain(20.0)
    assert [record.getMessage() for record in caplog.records] == [
        "The message bus takes no wake-ups, they may be lost: nobody there",
        "The message bus takes wake-ups again",
    ]


@pytest.mark.usefixtures("impatient")
def test_a_message_bus_that_does_not_answer_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    gate, begun = threading.Event(), threading.Event()

    def send(_message: None) -> None:
        begun.set()
        gate.wait()

    box = Outbox("notifications", send, limit=10)
    box.offer(None)
    assert begun.wait(20.0)
    box.offer(None)
    box.offer(None)
    gate.set()
    assert box.drain(20.0)
    assert [record.getMessage() for record in caplog.records][:1] == [
        "The message bus takes no notifications, they may be lost: it does not answer"
    ]
    assert caplog.text.count("takes no notifications") == 1


def _fail() -> None:
    raise ConnectionRefusedError("nobody there")
