"""From the inbox into the database: few statements, liveness by the database's clock, statuses only on change."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted import growth
from fleet import Fleet, beat, counted_statements, open_listener, up
from fleet import status as fleet_status
from sqlalchemy import select

from tavia.amphora.heartbeat import Heartbeat, derive_key, encode
from tavia.amphora.protocol import AgentStatus
from tavia.diagnosis.evidence import Refusal
from tavia.health import recording
from tavia.health.inbox import Inbox
from tavia.health.operating import corrections
from tavia.health.recording import Recorder
from tavia.health.starts import Starts
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, Topology
from tavia.store import schema
from tavia.store.liveness import database_time

KEY = "secret"


class Station:
    """An inbox and a recorder over a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.inbox = Inbox(lambda: KEY, {}, clock=fleet.clock)
        self.recorder = Recorder(
            fleet.database, self.inbox, lambda: fleet.wakes.append(None), memory=60.0, clock=fleet.clock
        )
        self._seq = 0

    def hear(self, *heartbeats: Heartbeat) -> None:
        for heartbeat in heartbeats:
            self.inbox.put(encode(heartbeat, derive_key(KEY, heartbeat.amphora_id)))

    def say(self, amphora_id: str, member_word: str = "UP", **given: Any) -> None:
        """A heartbeat of an amphora that serves what the fleet's load balancers have."""
        self._seq += 1
        short = self.fleet.row(amphora_id).loadbalancer_id[:8]
        pools = {f"pool-{short}:web-{short}": up(**{f"member-{short}": member_word})}
        listeners = {f"web-{short}": open_listener(tx=2, rx=1, conns=3, totconns=self._seq, ereq=5)}
        self.hear(beat(amphora_id, seq=self._seq, **({"listeners": listeners, "pools": pools} | given)))


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


@pytest.fixture
def station(fleet: Fleet) -> Station:
    return Station(fleet)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def rows(fleet: Fleet, table: Any) -> list[dict[str, Any]]:
    with fleet.database.read() as conn:
        return [dict(row) for row in conn.execute(select(table)).mappings()]


def operating(fleet: Fleet, amphora_id: str) -> dict[str, str]:
    """The operating statuses of its load balancer and of what is below, by table."""
    lb_id = fleet.row(amphora_id).loadbalancer_id
    found = {"load_balancer": fleet.loadbalancer(amphora_id).operating_status}
    for table in (schema.listener, schema.pool, schema.member):
        (row,) = [r for r in rows(fleet, table) if r["loadbalancer_id"] == lb_id]
        found[table.name] = row["operating_status"]
    return found


def test_the_number_of_statements_does_not_grow_with_the_number_of_amphorae(fleet: Fleet, station: Station) -> None:
    counts = []
    for more in (2, 30):
        amphorae = [fleet.add()[0] for _ in range(more)]
        for _ in range(2):  # the first time is news, which costs reading a tree each
            for amphora_id in amphorae:
                station.say(amphora_id)
            with counted_statements(fleet.database) as statements:
                station.recorder.flush()
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 8


def test_nothing_heard_costs_no_statement(fleet: Fleet, station: Station) -> None:
    fleet.add()
    with counted_statements(fleet.database) as statements:
        station.recorder.flush()
    assert statements == []


def test_a_heartbeat_leaves_its_time_order_and_what_it_said(fleet: Fleet, station: Station) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    station.hear(
        beat(
            amphora_id,
            seq=7,
            boot_count=2,
            vrrp_state="MASTER",
            peer_seen=True,
            haproxy_up=False,
            no_carrier=("eth1", "eth2"),
        )
    )
    station.recorder.flush()
    (row,) = rows(fleet, schema.amphora_health)
    assert (row["boot_count"], row["seq"], row["vrrp_state"], row["peer_seen"]) == (2, 7, "MASTER", True)
    assert (row["generation"], row["bundle_hash"], row["haproxy_up"]) == (3, "h", False)
    assert row["no_carrier"] == "eth1 eth2"
    with fleet.database.read() as conn:
        assert 0 <= database_time(conn) - row["last_update"] < 30


def test_one_recorded_late_counts_from_when_it_came_and_never_overwrites_a_later_word(
    fleet: Fleet, station: Station
) -> None:
    (amphora_id,) = fleet.add()
    station.hear(beat(amphora_id, seq=1, vrrp_state="BACKUP"))
    fleet.clock.now += 40
    fleet.heard(amphora_id, ago=10, vrrp_state="MASTER")  # meanwhile, by another health manager
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["vrrp_state"] == "MASTER"
    fleet.heard(amphora_id, ago=100, vrrp_state="MASTER")
    station.hear(beat(amphora_id, seq=2, vrrp_state="BACKUP"))
    fleet.clock.now += 40
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["vrrp_state"] == "BACKUP"


def test_counters_are_kept_by_listener_and_amphora_as_reported(fleet: Fleet, station: Station) -> None:
    (amphora_id,) = fleet.add()
    for _ in range(2):
        station.say(amphora_id)
        station.recorder.flush()
    (row,) = rows(fleet, schema.listener_statistics)
    assert row["amphora_id"] == amphora_id
    assert (row["bytes_in"], row["bytes_out"], row["active_connections"]) == (1, 2, 3)
    assert (row["total_connections"], row["request_errors"]) == (2, 5)


def test_a_listener_that_is_served_no_more_has_no_connections_there_but_keeps_what_it_counted(
    fleet: Fleet, station: Station
) -> None:
    (off, split), (other,) = fleet.add(Topology.ACTIVE_STANDBY), fleet.add()
    for amphora_id in (off, split, other):
        station.say(amphora_id)
    station.recorder.flush()
    station.hear(beat(off, seq=9))
    station.hear(beat(split, seq=9, complete=False))
    station.say(other)
    station.recorder.flush()
    counted = {row["amphora_id"]: row for row in rows(fleet, schema.listener_statistics)}
    assert {i: row["active_connections"] for i, row in counted.items()} == {off: 0, split: 3, other: 3}
    assert {i: row["total_connections"] for i, row in counted.items()} == {off: 1, split: 2, other: 4}


def test_an_amphora_counts_for_its_own_listeners_only(fleet: Fleet, station: Station) -> None:
    (mine,), (others,) = fleet.add(), fleet.add()
    short = fleet.row(others).loadbalancer_id[:8]
    station.hear(beat(mine, listeners={f"web-{short}": open_listener(tx=10**9), "made-up": open_listener()}))
    station.recorder.flush()
    assert rows(fleet, schema.listener_statistics) == []


def test_statuses_follow_the_heartbeats_and_are_written_only_when_they_change(fleet: Fleet, station: Station) -> None:
    (amphora_id,) = fleet.add()
    station.say(amphora_id)
    station.recorder.flush()
    assert set(operating(fleet, amphora_id).values()) == {"ONLINE"}
    station.say(amphora_id, "DOWN")
    station.recorder.flush()
    assert operating(fleet, amphora_id) == {
        "load_balancer": "DEGRADED", "listener": "ONLINE", "pool": "DEGRADED", "member": "ERROR",
    }  # fmt: skip
    station.say(amphora_id, "DOWN")
    with counted_statements(fleet.database) as statements:
        station.recorder.flush()
    assert not [s for s in statements if "operating_status" in s and s.startswith("UPDATE")]
    station.say(amphora_id, "UP")
    station.recorder.flush()
    assert set(operating(fleet, amphora_id).values()) == {"ONLINE"}


def test_the_master_of_a_pair_is_believed_also_when_only_the_backup_was_heard_since(
    fleet: Fleet, station: Station
) -> None:
    master, backup = fleet.add(Topology.ACTIVE_STANDBY)
    station.say(master, "UP", vrrp_state="MASTER")
    station.say(backup, "DOWN", vrrp_state="BACKUP")
    station.recorder.flush()
    station.say(backup, "DOWN 1/3", vrrp_state="BACKUP")
    station.recorder.flush()
    assert operating(fleet, master)["member"] == "ONLINE"
    fleet.clock.now += 61  # the master's word is too old now
    station.say(backup, "DOWN", vrrp_state="MASTER")
    station.recorder.flush()
    assert operating(fleet, master)["member"] == "ERROR"


def test_an_unknown_amphora_is_reported_once_and_nothing_is_done(
    fleet: Fleet, station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = str(uuid.uuid4())
    with caplog.at_level(logging.WARNING):
        for seq in (1, 2):
            station.hear(beat(stranger, seq=seq))
            station.recorder.flush()
    assert [r.getMessage() for r in caplog.records if stranger in r.getMessage()] == [
        f"Amphora {stranger} sends heartbeats but is not in the database; nothing is done"
    ]
    assert rows(fleet, schema.amphora_health) == []
    assert fleet.wakes == []


def test_a_removed_amphora_that_comes_back_never_counts_as_alive_and_is_removed_again(
    fleet: Fleet, station: Station
) -> None:
    (amphora_id,) = fleet.add()
    fleet.silence(amphora_id)
    fleet.change(amphora_id, status=AmphoraStatus.DELETED)
    silent_since = rows(fleet, schema.amphora_health)[0]["last_update"]
    station.say(amphora_id)
    station.recorder.flush()
    assert fleet.row(amphora_id).status == "DELETED"  # that one may have been on its way
    station.say(amphora_id)
    station.recorder.flush()
    assert fleet.row(amphora_id).status == "PENDING_DELETE"
    assert fleet.asked_to_converge(amphora_id)
    assert fleet.wakes == [None]
    assert rows(fleet, schema.amphora_health)[0]["last_update"] == silent_since


def test_while_the_database_is_away_the_newest_heartbeat_of_each_waits_and_is_recorded_then(
    fleet: Fleet, station: Station, tmp_path: Path
) -> None:
    (amphora_id,) = fleet.add()
    path = Path(str(fleet.database.engine.url.database))
    fleet.database.engine.dispose()
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.mkdir()  # nobody can make a new one there
    for seq in (1, 2):
        station.hear(beat(amphora_id, seq=seq))
        with pytest.raises(Exception, match="unable to open database file"):
            station.recorder.flush()
    path.rmdir()
    elsewhere.rename(path)
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["seq"] == 2


def test_after_a_start_the_statuses_of_400_load_balancers_take_few_statements(fleet: Fleet, station: Station) -> None:
    amphorae = [fleet.add()[0] for _ in range(400)]
    for amphora_id in amphorae:
        station.say(amphora_id, "DOWN")
    with counted_statements(fleet.database) as statements:
        station.recorder.flush()
    assert len(statements) < 50
    assert {row["operating_status"] for row in rows(fleet, schema.member)} == {"ERROR"}


def test_where_news_is_of_very_many_the_next_flush_goes_on_with_them(
    fleet: Fleet, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST_TOLD", 2)
    for amphora_id in [fleet.add()[0] for _ in range(5)]:
        station.say(amphora_id, "DOWN")
    told = []
    for _ in range(3):
        station.recorder.flush()
        told.append(sum(row["operating_status"] == "ERROR" for row in rows(fleet, schema.member)))
    assert told == [2, 4, 5]


def test_a_load_balancer_that_nobody_can_judge_keeps_no_other_from_being_told(
    fleet: Fleet, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bad,), (good,) = fleet.add(), fleet.add()
    spoilt = fleet.row(bad).loadbalancer_id

    def fail_for_one(tree: Any, heartbeats: Any) -> Any:
        if tree.loadbalancer.id == spoilt:
            raise LookupError("nobody foresaw it")
        return corrections(tree, heartbeats)

    monkeypatch.setattr(recording, "corrections", fail_for_one)
    with growth("tavia_health_unforeseen_total", where="record") as counted:
        for amphora_id in (bad, good):
            station.say(amphora_id, "DOWN")
        station.recorder.flush()
    assert (operating(fleet, good)["member"], counted.by) == ("ERROR", 1)


def test_one_of_another_disk_is_recorded_once_its_agent_has_confirmed_it_and_older_ones_never_again(
    fleet: Fleet, station: Station
) -> None:
    (amphora_id,) = fleet.add()
    fleet.heard(amphora_id, ago=60, boot_count=7, seq=499, start_id="old")
    station.hear(beat(amphora_id, seq=500, boot_count=7, start_id="old"))
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["start_id"] == "old"
    asked: list[str] = []

    def ask(asked_id: str, address: str) -> AgentStatus:
        asked.append(asked_id)
        return fleet_status(asked_id, boot_count=1, start_id="new")

    starts = Starts(fleet.database, station.inbox, ask, clock=fleet.clock)
    try:
        station.hear(beat(amphora_id, seq=1, boot_count=1, start_id="new"))
        station.recorder.flush()
        assert rows(fleet, schema.amphora_health)[0]["seq"] == 500
        starts.look()
        eventually(lambda: not station.inbox.of_other_disks())
        station.recorder.flush()
        row = rows(fleet, schema.amphora_health)[0]
        assert (row["start_id"], row["boot_count"], row["seq"]) == ("new", 1, 1)
        for seq in (501, 502):  # never delivered before, and later than all of the old disk that were
            station.hear(beat(amphora_id, seq=seq, boot_count=9, start_id="old"))
            fleet.clock.now += 100
            starts.look()
            eventually(lambda: not station.inbox.of_other_disks())
            station.recorder.flush()
        assert rows(fleet, schema.amphora_health)[0]["start_id"] == "new"
        station.hear(beat(amphora_id, seq=2, boot_count=1, start_id="new"))
        station.recorder.flush()
        assert rows(fleet, schema.amphora_health)[0]["seq"] == 2
    finally:
        starts.close()
    assert set(asked) == {amphora_id}


def test_a_new_health_manager_that_hears_another_disk_first_believes_it_no_more_than_the_one_before(
    fleet: Fleet, station: Station
) -> None:
    (amphora_id,) = fleet.add()
    fleet.heard(amphora_id, ago=5, boot_count=7, seq=500, start_id="new")
    last_update = rows(fleet, schema.amphora_health)[0]["last_update"]
    station.hear(beat(amphora_id, seq=900, boot_count=9, start_id="old"))
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["last_update"] == last_update
    assert station.inbox.refusal(amphora_id, 60) is Refusal.START
    station.hear(beat(amphora_id, seq=499, boot_count=7, start_id="new"))
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["last_update"] == last_update
    assert station.inbox.refusal(amphora_id, 60) is Refusal.REPLAYED


@pytest.mark.parametrize(
    "answer",
    [
        {"start_id": 5},
        {"start_id": "\ud800"},
        {"start_id": "x" * 37},
        {"start_id": "new", "boot_count": -1},
        {"start_id": "new", "boot_count": True},
        {"start_id": "new", "boot_count": 2**63},
        {"start_id": "old"},
        SeamError(Seam.MGMT_NET, "agent-timeout", "no answer"),
        ValueError("nobody foresaw it"),
    ],
)
def test_a_start_that_its_agent_does_not_confirm_is_not_believed_and_asked_ever_more_rarely(
    fleet: Fleet, station: Station, answer: Any
) -> None:
    (amphora_id,) = fleet.add()
    fleet.heard(amphora_id, ago=60, boot_count=7, seq=499, start_id="old")
    station.hear(beat(amphora_id, seq=500, boot_count=7, start_id="old"))
    station.recorder.flush()
    asked: list[float] = []

    def ask(asked_id: str, address: str) -> AgentStatus:
        asked.append(fleet.clock.now)
        if isinstance(answer, Exception):
            raise answer
        return fleet_status(asked_id, **answer)

    starts = Starts(fleet.database, station.inbox, ask, clock=fleet.clock)
    for _ in range(300):
        station.hear(beat(amphora_id, seq=1, boot_count=1, start_id="new"))
        starts.look()
        fleet.clock.now += 1.0
    starts._executor.shutdown()
    station.recorder.flush()
    assert rows(fleet, schema.amphora_health)[0]["seq"] == 500
    assert 5 < len(asked) < 15
