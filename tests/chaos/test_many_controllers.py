"""Three workers and several of each other service on one MariaDB: 200 load balancers while workers die and freeze."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import churn
import pytest
from churn import Client, Wanted
from controllers import SUBNET, controllers
from instance import eventually
from mariadb import MariaDb

from tavia.store.database import Database

CLIENTS = 20
EACH = 10
LEASE_TTL = 3.0
SETTINGS = {"tavia": {"lease_ttl": str(LEASE_TTL), "poll_interval": "0.5"}}


@pytest.mark.timeout(600)
def test_every_accepted_change_is_applied_once_by_one_worker_at_a_time(mariadb: MariaDb, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    url = mariadb.create_database()
    with controllers(tmp_path, url, apis=2, workers=3, health_managers=2, housekeepers=2, settings=SETTINGS) as stand:
        database = Database.connect(url)
        apis = [stand.url(api) for api in stand.named("tavia-api")]
        clients = [Client(apis[number % len(apis)]) for number in range(CLIENTS)]
        wanted: list[list[Wanted]] = []

        def work() -> None:
            with ThreadPoolExecutor(CLIENTS) as threads:
                wanted.extend(threads.map(post_all, clients, range(CLIENTS)))
            churn.churn(clients, wanted, churn.change_members, seed)

        workers = stand.named("tavia-worker")
        with churn.in_background(work) as over:
            churn.disturb(workers, 2 * LEASE_TTL, random.Random(seed), over)
        eventually(lambda: not churn.not_applied(database), "all load balancers are ACTIVE", 120.0)

        everything = [one for each in wanted for one in each]
        assert [one.seen(clients[0]) for one in everything] == everything
        assert set(churn.generations(database).values()) == {1 + churn.CHANGES}
        journal = churn.journal(database)
        assert journal.overlaps == []
        assert journal.hosts == {worker.name for worker in workers}
        assert journal.lost > 0, "no worker was killed at work"
        assert journal.longest_wait < 60.0
        database.engine.dispose()


def post_all(client: Client, number: int) -> list[Wanted]:
    members = [{"address": f"192.0.2.{last}", "protocol_port": 80, "weight": 1} for last in (101, 102)]
    return [churn.posted(client, f"{number}-{one}", SUBNET, members) for one in range(EACH)]
