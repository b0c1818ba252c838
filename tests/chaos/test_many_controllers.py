"""Three workers and several of each other service on one database: 200 load balancers while workers die and freeze.

Nothing starved: a load balancer that is due waits while others are served, but each of those only about once, however
slow the machine is. That is a bound for the whole; the order in which they come, the one that has waited for longest
soonest, is held by tests/unit/store/test_due.py: taken at random they pass here too where the workers are quick enough.
"""

from __future__ import annotations

import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import churn
import pytest
from churn import Client, Wanted
from controllers import SUBNET, Controllers, controllers
from instance import eventually
from mariadb import Galera, MariaDb, name_of
from rabbitmq import RabbitMQ

from tavia.store.database import Database

CLIENTS = 20
LEASE_TTL = 3.0
MORE_SECONDS = 120
SETTINGS = {"tavia": {"lease_ttl": str(LEASE_TTL), "poll_interval": "0.5"}}
HOW_MANY = {"workers": 3, "health_managers": 2, "housekeepers": 2, "apis": 2}
EMPTY: Any = dict.fromkeys(HOW_MANY, 0)


@pytest.mark.timeout(600)
def test_every_accepted_change_is_applied_once_by_one_worker_at_a_time(
    mariadb: MariaDb, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    url = mariadb.create_database()
    with controllers(tmp_path, url, **EMPTY, transport_url=rabbitmq.url, settings=SETTINGS) as stand:
        populate(stand, [url])
        churned(stand, each=10)


@pytest.mark.timeout(600)
def test_it_holds_as_well_when_each_process_has_another_node_of_a_galera_cluster(
    galera: Galera, tmp_path: Path
) -> None:
    first, *others = galera.nodes
    url = first.create_database()
    with controllers(tmp_path, url, **EMPTY, settings=SETTINGS) as stand:
        populate(stand, [url, *(node.url(name_of(url)) for node in others)])
        churned(stand, each=3)


def populate(stand: Controllers, urls: list[str]) -> None:
    """Start all processes; each is given the next of these databases."""
    connections = itertools.cycle({"database": {"connection": url}} for url in urls)
    add = {
        "workers": stand.add_worker,
        "health_managers": stand.add_health_manager,
        "housekeepers": stand.add_housekeeping,
        "apis": stand.add_api,
    }
    for kind, number in HOW_MANY.items():
        for _ in range(number):
            add[kind](next(connections))


def churned(stand: Controllers, each: int) -> None:
    """Clients post and change ``each`` load balancers, workers die and freeze; then all must be as they want it.

    It goes on until a worker died at work.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    apis = [stand.url(api) for api in stand.named("tavia-api")]
    clients = [Client(apis[number % len(apis)]) for number in range(CLIENTS)]
    wanted: list[list[Wanted]] = []

    def work() -> None:
        with ThreadPoolExecutor(CLIENTS) as threads:
            wanted.extend(threads.map(partial(post_all, each=each), clients, range(CLIENTS)))
        churn.churn(clients, wanted, churn.change_members, seed)
        deadline = time.monotonic() + MORE_SECONDS
        while not churn.lost(database) and time.monotonic() < deadline:
            churn.churn(clients, wanted, churn.change_members, seed)

    database = Database.connect(stand.connection)
    workers = stand.named("tavia-worker")
    with churn.in_background(work) as over:
        churn.disturb(workers, 2 * LEASE_TTL, random.Random(seed), over)
    eventually(lambda: not churn.not_applied(database), "all load balancers are ACTIVE", 120.0)

    everything = [one for share in wanted for one in share]
    assert [one.seen(clients[0]) for one in everything] == everything
    assert churn.generations(database) == {one.id: 1 + one.changes for one in everything}
    journal = churn.journal(database)
    assert journal.overlaps == []
    assert journal.lost > 0, "no worker was killed at work"
    assert len(journal.hosts) > 1
    assert churn.passed_over(journal, 2 * LEASE_TTL) < 2 * len(everything)
    database.dispose()


def post_all(client: Client, number: int, each: int) -> list[Wanted]:
    members = [{"address": f"192.0.2.{last}", "protocol_port": 80, "weight": 1} for last in (101, 102)]
    return [churn.posted(client, f"{number}-{one}", SUBNET, members) for one in range(each)]
