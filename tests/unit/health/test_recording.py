"""From the inbox into the database: few statements, liveness by the database's clock, statuses only on change."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, beat, counted_statements, open_listener, up
from sqlalchemy import select

from tavia.amphora.heartbeat import Heartbeat, derive_key, encode
from tavia.health.inbox import Inbox
from tavia.health.recording import Recorder
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
    station.hear(beat(amphora_id, seq=7, boot_count=2, vrrp_state="MASTER", peer_seen=True, haproxy_up=False))
    station.recorder.flush()
    (row,) = rows(fleet, schema.amphora_health)
    assert (row["boot_count"], row["seq"], row["vrrp_state"], row["peer_seen"]) == (2, 7, "MASTER", True)
    assert (row["generation"], row["bundle_hash"], row["haproxy_up"]) == (3, "h", False)
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
