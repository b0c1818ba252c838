"""Writers through one server or through several nodes of a cluster: no change is lost, and none happens twice."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from cut import wire
from mariadb import Galera, MariaDb, conflicts, name_of
from oslo_config import cfg
from sqlalchemy import Connection, select

from tavia.api import quotas
from tavia.api.errors import ApiError
from tavia.config import quotas as quota_options
from tavia.model.resources import LoadBalancer
from tavia.model.statuses import ProvisioningStatus
from tavia.store import commits, intents, leases, schema, trees
from tavia.store.clock import utcnow
from tavia.store.database import Database

T = TypeVar("T")


@pytest.fixture(params=["one server", "two nodes"])
def ways(request: pytest.FixtureRequest) -> Iterator[Sequence[Database]]:
    """Two ways to one database."""
    if request.param == "one server":
        server: MariaDb = request.getfixturevalue("mariadb")
        urls = [server.migrated_database()] * 2
    else:
        cluster: Galera = request.getfixturevalue("galera")
        name = name_of(cluster.nodes[0].migrated_database())
        urls = [node.url(name) for node in cluster.nodes[:2]]
    databases = [Database.connect(url) for url in urls]
    yield databases
    for database in databases:
        database.dispose()


def new_loadbalancer() -> LoadBalancer:
    return LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())


def made_through(database: Database, others: Sequence[Database]) -> str:
    """A load balancer that all see."""
    loadbalancer = new_loadbalancer()
    database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
    for other in others:
        deadline = time.monotonic() + 10
        while not generation(other, loadbalancer.id) and time.monotonic() < deadline:
            time.sleep(0.01)
    return loadbalancer.id


def generation(database: Database, loadbalancer_id: str) -> int:
    lb = schema.load_balancer.c
    with database.read() as conn:
        return int(conn.execute(select(lb.generation).where(lb.id == loadbalancer_id)).scalar() or 0)


def at_once(*calls: Callable[[], T]) -> list[T]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def settled(ways: Sequence[Database], loadbalancer_id: str, expected: int) -> None:
    """All ways show the generation, after a while."""
    for database in ways:
        deadline = time.monotonic() + 10
        while generation(database, loadbalancer_id) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert generation(database, loadbalancer_id) == expected


def test_every_change_takes_a_generation_of_its_own(ways: Sequence[Database]) -> None:
    loadbalancer_id = made_through(ways[0], ways)

    def change(database: Database) -> list[int]:
        return [database.write(lambda conn: intents.begin_change(conn, loadbalancer_id)) for _ in range(10)]

    first, second = at_once(lambda: change(ways[0]), lambda: change(ways[1]))
    assert sorted(first + second) == list(range(2, 22))
    settled(ways, loadbalancer_id, 21)


def test_each_generation_is_taken_once_also_where_certification_fails(galera: Galera) -> None:
    name = name_of(galera.nodes[0].migrated_database())
    ways = [Database.connect(node.url(name)) for node in galera.nodes]
    loadbalancer_id = made_through(ways[0], ways)
    before, deadline = conflicts(*galera.nodes), time.monotonic() + 60
    over = threading.Event()

    def change(database: Database) -> list[int]:
        taken = []
        while not over.is_set():
            taken.append(database.write(lambda conn: intents.begin_change(conn, loadbalancer_id)))
        return taken

    def watch() -> list[int]:
        while conflicts(*galera.nodes) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        over.set()
        return []

    generations = sorted(itertools.chain.from_iterable(at_once(watch, *(partial(change, way) for way in ways))))
    assert conflicts(*galera.nodes) >= before + 5, "the nodes never had a conflict"
    assert generations == list(range(2, len(generations) + 2))
    settled(ways, loadbalancer_id, generations[-1])
    for database in ways:
        database.dispose()


def test_a_lease_is_taken_by_one(ways: Sequence[Database]) -> None:
    for _ in range(5):
        loadbalancer_id = made_through(ways[0], ways)
        start = threading.Barrier(4)

        def take(database: Database, owner: str, key: str, start: threading.Barrier) -> object:
            with database.read() as conn:
                free = leases.seen(conn, key)
            start.wait(10)
            return database.write(lambda conn: leases.take(conn, free, owner, 30.0))

        calls = [
            lambda n=n, key=loadbalancer_id, start=start: take(ways[n % 2], f"worker {n}", key, start) for n in range(4)
        ]
        assert len([lease for lease in at_once(*calls) if lease]) == 1


def test_what_is_accepted_while_a_worker_commits_stays_pending(ways: Sequence[Database]) -> None:
    for _ in range(5):
        loadbalancer_id = made_through(ways[0], ways)
        at_once(
            partial(ways[0].write, partial(commits.commit_converged, loadbalancer_id=loadbalancer_id, generation=1)),
            partial(ways[1].write, partial(intents.begin_change, loadbalancer_id=loadbalancer_id)),
        )
        settled(ways, loadbalancer_id, 2)
        with ways[0].read() as conn:
            row = trees.read_tree(conn, loadbalancer_id).loadbalancer
        assert row.observed_generation == 1
        assert row.provisioning_status in (ProvisioningStatus.PENDING_UPDATE, ProvisioningStatus.PENDING_CREATE)


def test_the_last_place_of_a_quota_is_given_once(ways: Sequence[Database]) -> None:
    conf = cfg.ConfigOpts()
    conf.register_opts(quota_options.OPTIONS, group="quotas")
    conf.set_override("default_load_balancer_quota", 1, group="quotas")
    both_checked = threading.Barrier(2)

    def create(database: Database) -> bool:
        loadbalancer = new_loadbalancer()

        def work(conn: Connection) -> None:
            quotas.check(conn, conf, "p", [loadbalancer])
            with contextlib.suppress(threading.BrokenBarrierError):
                both_checked.wait(0.5)
            intents.create_loadbalancer(conn, loadbalancer)

        try:
            database.write(work)
        except ApiError:
            return False
        return True

    assert sorted(map(bool, at_once(lambda: create(ways[0]), lambda: create(ways[1])))) == [False, True]


def test_a_writer_whose_node_dies_goes_on_through_another_and_loses_nothing(galera: Galera) -> None:
    dying, other, _ = galera.nodes
    url = dying.migrated_database()
    with wire(dying) as way:
        database = Database.connect(way.through(url))
        loadbalancer_id = made_through(database, [database])

        def change() -> list[int]:
            return [database.write(lambda conn: intents.begin_change(conn, loadbalancer_id)) for _ in range(60)]

        def kill() -> None:
            while generation(whole, loadbalancer_id) < 20:
                time.sleep(0.01)
            way.server = other
            dying.kill()

        whole = Database.connect(other.url(name_of(url)))
        generations, _ = at_once(change, kill)
        assert generations == list(range(2, 62))
        assert generation(whole, loadbalancer_id) == 61
        database.dispose()
        whole.dispose()
