"""What the health manager shows to Prometheus."""

from __future__ import annotations

from pathlib import Path

from counted import growth, sample
from fleet import Fleet, beat

from tavia.amphora.heartbeat import derive_key, encode
from tavia.diagnosis.guard import Limits
from tavia.health.inbox import Inbox
from tavia.health.recording import Recorder

KEY = "a key of the deployment"


def test_every_datagram_is_accepted_or_dropped_for_a_reason(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    (known,) = fleet.add()
    stranger = "5f8a9c56-93a5-4f0f-8d2c-0c8b3f0d6a11"
    inbox = Inbox(lambda: KEY, {})

    def sent(amphora_id: str, key: str = KEY, seq: int = 2) -> bytes:
        return encode(beat(amphora_id, seq=seq), derive_key(key, amphora_id))

    def dropped(reason: str) -> float:
        return sample("tavia_heartbeats_dropped_total", reason=reason)

    reasons = ("malformed", "signature", "replayed", "unknown")
    before = [dropped(reason) for reason in reasons]
    with (
        growth("tavia_heartbeats_received_total") as received,
        growth("tavia_heartbeats_accepted_total") as accepted,
        growth("tavia_heartbeat_flush_rows_total") as rows,
    ):
        for datagram in (sent(known), sent(known), sent(known, key="another"), b"noise", sent(stranger)):
            inbox.put(datagram)
        Recorder(fleet.database, inbox, lambda: None, memory=60.0).flush()
    assert (received.by, accepted.by, rows.by) == (5, 2, 1)
    assert [dropped(reason) - was for reason, was in zip(reasons, before, strict=True)] == [1, 1, 1, 1]


def guard_shows() -> set[str]:
    regimes = ("grace", "normal", "slow", "halted")
    return {regime for regime in regimes if sample("tavia_failover_guard", regime=regime)}


def test_a_dead_amphora_is_silent_suspected_judged_and_replaced(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    dead, *_ = [fleet.add()[0] for _ in range(10)]
    fleet.silence(dead)
    fleet.cloud.delete(fleet.row(dead).compute_id)
    with (
        growth("tavia_verdicts_total", seam="boot", verdict="server-gone", action="replace") as verdicts,
        growth("tavia_replacements_total") as replacements,
    ):
        fleet.watch().cycle()
    assert (verdicts.by, replacements.by) == (1, 1)
    assert (sample("tavia_amphorae_silent"), sample("tavia_amphorae_suspected")) == (1, 1)
    assert guard_shows() == {"normal"}


def test_many_silent_ones_halt_the_guard(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    silent = [fleet.add()[0] for _ in range(4)]
    fleet.silence(*silent)
    fleet.watch().cycle()
    assert fleet.marked() == []
    assert guard_shows() == {"halted"}


def test_as_many_silent_ones_as_the_threshold_halt_the_guard_too(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    silent, *_ = [fleet.add()[0] for _ in range(10)]
    fleet.silence(silent)
    fleet.watch(Limits(threads=1, share=1.0, threshold=1)).cycle()
    assert fleet.marked() == []
    assert guard_shows() == {"halted"}


def test_more_deaths_than_threads_slow_the_guard_down(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    dead = [fleet.add()[0] for _ in range(3)]
    fleet.add()
    fleet.silence(*dead)
    for each in dead:
        fleet.cloud.delete(fleet.row(each).compute_id)
    watch = fleet.watch(Limits(threads=1, share=0.2))
    watch.cycle()
    assert guard_shows() == {"slow"}
    watch.cycle()
    assert sample("tavia_failover_budget_left") == 0
