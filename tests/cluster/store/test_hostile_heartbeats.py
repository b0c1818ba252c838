"""Whatever an amphora signs, through the recorder into both databases: it hurts nobody but itself."""

from __future__ import annotations

import hmac
import json
import logging
import random
import threading
import uuid
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from counted import growth
from fleet import Fleet, beat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mariadb import MariaDb
from sqlalchemy import Connection, select
from world import fresh_database

from tavia.amphora.heartbeat import MAX_COUNT, derive_key, encode
from tavia.diagnosis.evidence import Refusal
from tavia.health import unforeseen
from tavia.health.inbox import Inbox, Received
from tavia.health.recording import Recorder, _liveness
from tavia.model.resources import Member
from tavia.model.statuses import OperatingStatus, Topology
from tavia.store import liveness, schema, statistics

KEY = "secret"

texts = st.text(st.characters(exclude_categories=()), max_size=70) | st.sampled_from(
    ["", " ", "\ud800", "\0", "UP 1/3"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
counts = st.sampled_from([0, 1, MAX_COUNT, MAX_COUNT + 1, -1]) | st.integers()
words = st.sampled_from(["UP", "DOWN", "MASTER", "OPEN", "no check"]) | texts


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    server = request.getfixturevalue("mariadb") if request.param == "mariadb" else None
    its = Fleet(fresh_database(tmp_path_factory.mktemp("hostile"), server))
    yield its
    its.database.dispose()


@pytest.fixture(scope="module")
def bad_and_good(fleet: Fleet) -> tuple[str, str]:
    (bad,), (good,) = fleet.add(), fleet.add()
    return bad, good


def signed(amphora_id: str, content: object) -> bytes:
    header = b"TVH1" + uuid.UUID(amphora_id).bytes
    body = zlib.compress(json.dumps(content).encode())
    return header + hmac.digest(derive_key(KEY, amphora_id), header + body, "sha256") + body


def station(fleet: Fleet) -> tuple[Inbox, Recorder]:
    inbox = Inbox(lambda: KEY, {})
    return inbox, Recorder(fleet.database, inbox, lambda: None, memory=60.0)


def recorded(fleet: Fleet, amphora_id: str) -> Any:
    health = schema.amphora_health
    with fleet.database.read() as conn:
        return conn.execute(select(health).where(health.c.amphora_id == amphora_id)).one()


def nonsense(fleet: Fleet, amphora_id: str) -> st.SearchStrategy[Any]:
    """What could be a heartbeat of it, any part of it replaced."""
    short = fleet.row(amphora_id).loadbalancer_id[:8]
    stats = st.fixed_dictionaries(dict.fromkeys(("tx", "rx", "conns", "totconns", "ereq"), counts))
    listener = st.fixed_dictionaries({"status": words, "stats": stats | anything})
    pool = st.fixed_dictionaries(
        {"status": words, "members": st.dictionaries(st.just(f"member-{short}") | texts, words, max_size=3) | anything}
    )
    whole = st.fixed_dictionaries(
        {
            "boot_count": st.just(1) | counts,
            "seq": st.integers(1, 10**6) | counts,
            "generation": st.just(3) | counts,
            "bundle_hash": st.just("h") | anything,
            "vrrp_state": st.none() | words,
            "peer_seen": st.none() | st.booleans() | anything,
            "haproxy_up": st.booleans() | anything,
            "haproxy_restarts": st.just(0) | counts,
            "complete": st.booleans() | anything,
            "listeners": st.dictionaries(st.just(f"web-{short}") | texts, listener | anything, max_size=3) | anything,
            "pools": st.dictionaries(st.just(f"pool-{short}:web-{short}") | texts, pool | anything, max_size=3),
        },
        optional={
            "agent_version": texts | anything,
            "start_id": texts | anything,
            "no_carrier": st.lists(texts) | anything,
            "more": anything,
        },
    )
    return whole | anything


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_neighbour_in_the_same_flush_is_always_recorded(
    fleet: Fleet, bad_and_good: tuple[str, str], data: st.DataObject
) -> None:
    bad, good = bad_and_good
    inbox, recorder = station(fleet)
    before = recorded(fleet, good).seq
    for content in data.draw(st.lists(nonsense(fleet, bad), min_size=1, max_size=3)):
        inbox.put(signed(bad, content))
    inbox.put(encode(beat(good, seq=before + 1), derive_key(KEY, good)))
    recorder.flush()
    assert recorded(fleet, good).seq == before + 1
    recorder.flush()


@pytest.mark.parametrize("neighbours", [0, 1, 6])
def test_what_was_not_foreseen_where_it_is_read_is_left_out_where_it_is_written(
    fleet: Fleet, neighbours: int, caplog: pytest.LogCaptureFixture
) -> None:
    unforeseen._said.clear()
    (bad,) = fleet.add()
    good = [fleet.add()[0] for _ in range(neighbours)]
    inbox, recorder = station(fleet)
    with (
        growth("tavia_heartbeats_dropped_total", reason="unrecordable") as dropped,
        growth("tavia_health_unforeseen_total", where="record") as counted,
        caplog.at_level(logging.ERROR),
    ):
        for seq in (1, 2):
            for amphora_id in good:
                inbox.put(encode(beat(amphora_id, seq=seq), derive_key(KEY, amphora_id)))
            inbox._waiting[bad] = Received(beat(bad, seq=seq, agent_version="\ud800"), inbox._clock())
            recorder.flush()
    assert (dropped.by, counted.by) == (2, 2)
    assert [recorded(fleet, i).seq for i in good] == [2] * neighbours
    assert inbox.refusal(bad, 60) is Refusal.UNRECORDABLE
    assert len([r for r in caplog.records if bad in r.getMessage()]) == 1


def test_where_the_database_takes_no_writes_at_all_everything_waits(
    fleet: Fleet, bad_and_good: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, good = bad_and_good
    inbox, recorder = station(fleet)
    seq = recorded(fleet, good).seq + 1

    def refuse(*_: object) -> None:
        raise OSError("read-only")

    inbox.put(encode(beat(good, seq=seq), derive_key(KEY, good)))
    with monkeypatch.context() as broken:
        broken.setattr(liveness, "record", refuse)
        broken.setattr(liveness, "takes_writes", refuse)
        with pytest.raises(OSError, match="read-only"):
            recorder.flush()
    recorder.flush()
    assert recorded(fleet, good).seq == seq


def test_three_that_write_the_same_rows_each_in_another_order_never_wait_for_each_other(
    mariadb: MariaDb, tmp_path: Path
) -> None:
    fleet = Fleet(fresh_database(tmp_path, mariadb))
    amphorae = [i for _ in range(15) for i in fleet.add(Topology.ACTIVE_STANDBY)]
    of_member = {f"member-{fleet.row(i).loadbalancer_id[:8]}" for i in amphorae}
    counters = dict.fromkeys(schema.COUNTERS, 1)
    failures: list[Exception] = []
    together = threading.Barrier(3)

    def all_of_it(conn: Connection, heard: Any, counted: Any, statuses: Any) -> None:
        liveness.record(conn, heard)
        statistics.record(conn, counted)
        liveness.set_operating_statuses(conn, Member, statuses)

    def write(number: int) -> None:
        shuffled = random.Random(number)
        try:
            for flush in range(24):
                order = shuffled.sample(amphorae, len(amphorae))
                heard = [_liveness(beat(i, seq=3 * flush + number), 1e9 + 3 * flush + number) for i in order]
                counted = [{"listener_id": i, "amphora_id": i, "loadbalancer_id": "lb", **counters} for i in order]
                statuses = {i: shuffled.choice(list(OperatingStatus)) for i in shuffled.sample(sorted(of_member), 15)}
                together.wait(30)
                fleet.database.write(partial(all_of_it, heard=heard, counted=counted, statuses=statuses))
        except Exception as error:
            failures.append(error)
            together.abort()

    with growth("tavia_database_conflicts_total") as conflicts:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    fleet.database.dispose()
    assert failures == []
    assert conflicts.by == 0
