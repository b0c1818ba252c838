"""Rows of processes: made, renewed, made again, removed; and who is configured otherwise than the others."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from tavia.store import schema, services
from tavia.store.database import Database
from tavia.store.services import Process


def process(key: str = "1", name: str = "tavia-worker", **groups: str) -> Process:
    return Process(
        id=key, name=name, host="h", pid=7, version="1", config_hash="c", config_group_hashes=groups or {"g": "x"}
    )


def only(database: Database) -> services.Known:
    with database.read() as conn:
        (known,) = services.known(conn)
    return known


def test_a_process_is_known_since_it_began_and_seen_when_it_reported_last(database: Database) -> None:
    database.write(lambda conn: services.report(conn, process(), uptime=100.0))
    first = only(database)
    assert (first.name, first.pid, first.config_group_hashes) == ("tavia-worker", 7, {"g": "x"})
    assert first.seen - first.started == pytest.approx(100.0, abs=1.0)
    assert 0 <= first.silent_for < 5
    database.write(lambda conn: services.report(conn, process(g="y"), uptime=200.0))
    second = only(database)
    assert second.started == first.started
    assert second.seen >= first.seen
    assert second.config_group_hashes == {"g": "y"}


def test_a_row_that_was_purged_is_made_again_with_its_true_beginning(database: Database) -> None:
    database.write(lambda conn: services.report(conn, process(), uptime=0.0))
    database.write(lambda conn: services.withdraw(conn, "1"))
    database.write(lambda conn: services.report(conn, process(), uptime=50.0))
    assert only(database).seen - only(database).started == pytest.approx(50.0, abs=1.0)


def test_only_the_long_dead_are_purged(database: Database) -> None:
    for key in ("dead", "silent"):
        database.write(lambda conn, key=key: services.report(conn, process(key), uptime=0.0))  # type: ignore[misc]
    service = schema.service
    database.write(
        lambda conn: conn.execute(update(service).where(service.c.id == "dead").values(seen=service.c.seen - 1000))
    )
    assert database.write(lambda conn: services.purge(conn, 500)) == 1
    assert only(database).id == "silent"


def test_the_one_that_differs_from_most_is_named_with_its_groups() -> None:
    same = [process(key, g="x", h="y") for key in "abc"]
    odd = process("d", g="x", h="other")
    assert services.differing_groups([*same, odd]) == {"a": [], "b": [], "c": [], "d": ["h"]}


def test_services_of_every_kind_are_compared_but_only_in_groups_that_they_use() -> None:
    api = process("a", "tavia-api", database="x", quotas="q")
    worker = process("w", "tavia-worker", database="x", certificates="c")
    manager = process("m", "tavia-health-manager", database="other")
    assert services.differing_groups([api, worker, manager]) == {"a": [], "w": [], "m": ["database"]}


def test_without_a_majority_all_differ() -> None:
    halves = [process("a", g="x"), process("b", g="y")]
    assert services.differing_groups(halves) == {"a": ["g"], "b": ["g"]}


def test_nobody_differs_from_nobody() -> None:
    assert services.differing_groups([]) == {}
    assert services.differing_groups([process("a")]) == {"a": []}
