"""An amphora that runs another bundle than it was given is pushed again, and is no failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet import TIMEOUT, Fleet

from tavia.housekeeping.resync import Resync


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


@pytest.fixture
def resync(fleet: Fleet) -> Resync:
    return Resync(fleet.database, TIMEOUT, lambda: fleet.wakes.append(None))


def test_one_that_differs_in_two_rounds_is_pushed_again(fleet: Fleet, resync: Resync) -> None:
    (lagging,), (fine,) = fleet.add(), fleet.add()
    fleet.heard(lagging, bundle_hash="old")
    resync.sweep()
    assert fleet.row(lagging).applied_hash == "h"
    resync.sweep()
    assert fleet.row(lagging).applied_hash is None
    assert fleet.asked_to_converge(lagging)
    assert fleet.loadbalancer(lagging).generation == 3
    assert fleet.row(fine).applied_hash == "h"
    assert (fleet.marked(), fleet.wakes) == ([], [None])


def test_one_whose_agent_knows_its_bundle_by_another_hash_is_left_alone(fleet: Fleet, resync: Resync) -> None:
    """An older agent makes its own hash, of the keys that it knows, and answers with it."""
    (older,) = fleet.add(held_hash="its own")
    for reported, is_left in (("its own", True), ("h", True), ("another", False)):
        fleet.heard(older, bundle_hash=reported)
        resync.sweep()
        resync.sweep()
        assert (fleet.row(older).applied_hash == "h") is is_left, reported


def test_one_that_lost_its_bundle_is_pushed_again(fleet: Fleet, resync: Resync) -> None:
    (empty,) = fleet.add()
    fleet.heard(empty, bundle_hash=None, generation=0)
    resync.sweep()
    resync.sweep()
    assert fleet.row(empty).applied_hash is None


def test_one_that_differs_in_another_way_each_time_is_being_changed_just_now(fleet: Fleet, resync: Resync) -> None:
    (busy,) = fleet.add()
    for reported in ("one", "two", "three"):
        fleet.heard(busy, bundle_hash=reported)
        resync.sweep()
    assert fleet.row(busy).applied_hash == "h"


def test_a_silent_one_says_nothing_of_what_it_runs(fleet: Fleet, resync: Resync) -> None:
    (silent,) = fleet.add()
    fleet.silence(silent, bundle_hash="old")
    resync.sweep()
    resync.sweep()
    assert fleet.row(silent).applied_hash == "h"
