"""The database is restored from an older copy under live amphorae: Tavia goes on by itself, clients notice nothing."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from instance import CONTROLLERS, Balancer, Instance


@pytest.fixture
def balancer(instance: Instance) -> Balancer:
    made = instance.balancer("restored")
    made.await_active()
    made.await_served_by("red", "green")
    return made


def test_amphorae_ahead_of_a_restored_database_are_brought_to_what_it_says(
    instance: Instance, balancer: Balancer
) -> None:
    file = instance.embedded.state_dir / "tavia.sqlite"
    copy = file.with_suffix(".older")
    with sqlite3.connect(file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    for value in (0, 1, 0):  # green alone serves in the end
        balancer.change("PUT", balancer.member_path("red"), member={"weight": value})
        balancer.await_active()
    balancer.await_served_by("green")

    with instance.traffic(balancer) as seen:
        supervisor = instance.supervisor()
        instance.kill(supervisor, *map(instance.service, CONTROLLERS))
        instance.database.engine.dispose()
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        shutil.move(copy, file)
        instance.driver.tavia("up")
        balancer.change("PUT", balancer.member_path("red"), member={"weight": 3})
        balancer.await_active()
        balancer.await_served_by("red", "green")
    assert seen.failures == []
    assert "database-went-back" in {operation["what"] for operation in balancer.operations()}
