from __future__ import annotations

from fleet import Clock

from tavia.health.grace import Grace


def test_it_lasts_for_its_time_after_the_start_and_after_each_disturbance() -> None:
    clock = Clock()
    grace = Grace(30, longest_gap=1000, clock=clock)
    assert grace.active
    clock.now += 30
    assert not grace.active
    grace.disturbed()
    clock.now += 29
    assert grace.active
    clock.now += 1
    assert not grace.active


def test_a_process_that_stood_still_trusts_no_silence_until_it_has_listened_for_a_while() -> None:
    clock = Clock()
    grace = Grace(30, longest_gap=5, clock=clock)
    for _ in range(10):
        clock.now += 4
        grace.recorded()
    assert not grace.active
    clock.now += 3600  # frozen, then woken: the watch may come before the recorder
    assert grace.active
    grace.recorded()
    assert grace.active
    for _ in range(8):
        clock.now += 4
        grace.recorded()
    assert not grace.active
