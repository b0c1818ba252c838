"""Clients that change load balancers without waiting while workers are killed, stopped and frozen; what must hold then.

Every change that is accepted is noted in :class:`Wanted`; in the end the API must show exactly that, and the journal
that nobody worked on a load balancer while somebody else did.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import urllib3
from sqlalchemy import text

from tavia.store.database import Database

CHANGES = 10
"""How often each load balancer is changed after it was posted."""


class Worker(Protocol):
    """A real process."""

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> None:
        """Another one after a kill; returns at once."""

    def freeze(self) -> None:
        """SIGSTOP."""

    def thaw(self) -> None:
        """SIGCONT."""

    def tell_to_stop(self) -> None:
        """SIGTERM."""

    def wait(self, seconds: float) -> int:
        """Until it has ended; its exit status."""


STOPS_WITHIN = 65.0
"""A little more than [DEFAULT] graceful_shutdown_timeout, which nobody configures here."""


def disturb(workers: Sequence[Worker], frozen_for: float, chance: random.Random, over: threading.Event) -> None:
    """Kill, stop and freeze one worker after the other, at random, until it is ``over``; all of them run then.

    ``frozen_for``: the most seconds for which one is frozen; more than a lease lasts, so that it is overtaken. In the
    thread of the caller, for a worker dies with the thread that started it.
    """
    ways: list[str] = []
    while not over.wait(chance.uniform(0.1, 1.0)):
        worker = chance.choice(workers)
        ways = ways or chance.sample(["kill", "stop", "freeze"], 3)
        match ways.pop():
            case "kill":
                worker.kill()
                over.wait(chance.uniform(0.0, 1.0))
                worker.start()
            case "stop":
                worker.tell_to_stop()
                # One that was started a moment ago does not listen yet.
                assert worker.wait(STOPS_WITHIN) in (0, -signal.SIGTERM)
                worker.start()
            case "freeze":
                worker.freeze()
                over.wait(chance.uniform(0.5, frozen_for))
                worker.thaw()


class Client:
    """A client of the API. What is refused as busy is asked again, as Retry-After says."""

    def __init__(self, url: str) -> None:
        retry = urllib3.Retry(total=20, connect=0, read=0, status_forcelist=[503], allowed_methods=None)
        self._root = f"{url}/v2.0/lbaas"
        self._pool = urllib3.PoolManager(timeout=60.0, retries=retry)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._pool.request(method, f"{self._root}{path}", json=body)
        assert answer.status < 300, f"{method} {path} {body}: {answer.status} {answer.data.decode()}"
        return answer.json() if answer.data else None


@dataclass
class Wanted:
    """A load balancer as its client wants it; ``members`` maps ids to weights."""

    id: str
    listener_id: str
    pool_id: str
    name: str
    connection_limit: int
    members: dict[str, int] = field(default_factory=dict)
    changes: int = 0

    def seen(self, client: Client) -> Wanted:
        """The same as the API shows it now; a row that is not ACTIVE has its status in place of its value."""

        def value(row: Any, attribute: str) -> Any:
            return row[attribute] if row["provisioning_status"] == "ACTIVE" else row["provisioning_status"]

        shown = client.call("GET", f"/loadbalancers/{self.id}")["loadbalancer"]
        listener = client.call("GET", f"/listeners/{self.listener_id}")["listener"]
        members = client.call("GET", f"/pools/{self.pool_id}/members")["members"]
        return Wanted(
            self.id,
            self.listener_id,
            self.pool_id,
            value(shown, "name"),
            value(listener, "connection_limit"),
            {member["id"]: value(member, "weight") for member in members},
            self.changes,
        )


def posted(client: Client, name: str, subnet_id: str, members: Sequence[dict[str, Any]]) -> Wanted:
    """A load balancer with a listener, a pool and these members, in one POST."""
    pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": list(members)}
    listener = {"name": "web", "protocol": "HTTP", "protocol_port": 80, "connection_limit": 1000, "default_pool": pool}
    body = {"name": name, "vip_subnet_id": subnet_id, "listeners": [listener]}
    made = client.call("POST", "/loadbalancers", {"loadbalancer": body})["loadbalancer"]
    pool_id = made["pools"][0]["id"]
    found = client.call("GET", f"/pools/{pool_id}/members")["members"]
    return Wanted(made["id"], made["listeners"][0]["id"], pool_id, name, 1000, {m["id"]: m["weight"] for m in found})


def change(client: Client, wanted: Wanted, chance: random.Random) -> None:
    """One accepted change that clients behind the VIP do not notice."""
    number = wanted.changes + 1
    kind = chance.choice(["name", "limit", "weight", "weight"])
    if kind == "name":
        name = f"{wanted.id[:8]}-{number}"
        client.call("PUT", f"/loadbalancers/{wanted.id}", {"loadbalancer": {"name": name}})
        wanted.name = name
    elif kind == "limit":
        limit = 1000 + number
        client.call("PUT", f"/listeners/{wanted.listener_id}", {"listener": {"connection_limit": limit}})
        wanted.connection_limit = limit
    else:
        member_id = chance.choice(sorted(wanted.members))
        weight = chance.randint(1, 256)
        path = f"/pools/{wanted.pool_id}/members/{member_id}"
        client.call("PUT", path, {"member": {"weight": weight}})
        wanted.members[member_id] = weight
    wanted.changes = number


def change_members(client: Client, wanted: Wanted, chance: random.Random) -> None:
    """One accepted change, of the load balancer, its listener or the set of its members."""
    kind = chance.choice(["add", "remove", "other", "other"])
    number = wanted.changes + 1
    if kind == "add":
        body = {"address": f"192.0.2.{number}", "protocol_port": 8000 + number, "weight": number}
        made = client.call("POST", f"/pools/{wanted.pool_id}/members", {"member": body})["member"]
        wanted.members[made["id"]] = number
        wanted.changes = number
    elif kind == "remove" and len(wanted.members) > 1:
        member_id = chance.choice(sorted(wanted.members))
        client.call("DELETE", f"/pools/{wanted.pool_id}/members/{member_id}")
        del wanted.members[member_id]
        wanted.changes = number
    else:
        change(client, wanted, chance)


Change = Callable[[Client, Wanted, random.Random], None]


def churn(clients: Sequence[Client], wanted: Sequence[Sequence[Wanted]], how: Change, seed: int) -> None:
    """Each client changes its load balancers in turn, ``CHANGES`` times each, without waiting for anything."""

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(CHANGES):
            for one in wanted[number]:
                how(clients[number], one, chance)

    with ThreadPoolExecutor(len(clients)) as threads:
        for _ in threads.map(work, range(len(clients))):
            pass


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[threading.Event]:
    """Runs ``work`` beside the block, which gets an event that is set when it ended; raises what it raised."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work)
        future.add_done_callback(lambda _: over.set())
        yield over
        future.result()


def not_applied(database: Database) -> list[str]:
    """Load balancers whose last accepted generation is not the applied one, or that are not ACTIVE."""
    sql = (
        "SELECT id, provisioning_status, generation, observed_generation FROM load_balancer "
        "WHERE provisioning_status <> 'ACTIVE' OR generation <> observed_generation"
    )
    with database.read() as conn:
        return [str(row) for row in conn.execute(text(sql))]


def generations(database: Database) -> dict[str, int]:
    """Each load balancer's last generation: one for its creation, one for each accepted change."""
    with database.read() as conn:
        return {row.id: row.generation for row in conn.execute(text("SELECT id, generation FROM load_balancer"))}


def lost(database: Database) -> int:
    """How many operations were lost with their worker."""
    with database.read() as conn:
        return int(conn.execute(text("SELECT COUNT(*) FROM operation WHERE state = 'lost'")).scalar_one())


@dataclass(frozen=True)
class Served:
    """A change that was accepted: when, when the operation began that applied it, how many came to nothing before."""

    accepted: float
    begun: float
    failed: int


@dataclass(frozen=True)
class Journal:
    """What the journal shows of all load balancers.

    ``overlaps``: operations that, or a step of which, ended after a later one on the same load balancer had begun.
    ``begun``: when each operation began, sorted.
    """

    hosts: set[str]
    lost: int
    overlaps: list[str]
    changes: list[Served]
    begun: list[float]


def journal(database: Database) -> Journal:
    """Read the whole journal."""
    with database.read() as conn:
        operations = conn.execute(text("SELECT * FROM operation WHERE epoch > 0 ORDER BY loadbalancer_id, epoch")).all()
        steps = conn.execute(text("SELECT operation_id, MAX(ended) AS ended FROM step GROUP BY operation_id"))
        last_step = {row.operation_id: row.ended for row in steps}
        changes = conn.execute(text("SELECT * FROM accepted_change ORDER BY accepted")).all()
    overlaps = []
    for before, after in itertools.pairwise(operations):
        if before.loadbalancer_id == after.loadbalancer_id:
            ended = max(before.ended or float("inf"), last_step.get(before.id) or 0.0)
            if ended > after.started or before.epoch == after.epoch:
                overlaps.append(f"{before} ended at {ended}, after the begin of {after}")
    return Journal(
        hosts={row.host for row in operations},
        lost=sum(row.state == "lost" for row in operations),
        overlaps=overlaps,
        changes=_changes(changes, operations),
        begun=sorted(row.started for row in operations),
    )


def _changes(changes: Sequence[Any], operations: Sequence[Any]) -> list[Served]:
    """What became of each change; ``operations`` oldest first."""
    of: dict[str, list[Any]] = defaultdict(list)
    for row in operations:
        of[row.loadbalancer_id].append(row)
    found = []
    for change in changes:
        mine = of[change.loadbalancer_id]
        begun = _begun(change, [row for row in mine if row.state == "done"])
        failed = sum(row.state != "done" and change.accepted < (row.ended or 0.0) <= begun for row in mine)
        found.append(Served(change.accepted, begun, failed))
    return found


def passed_over(journal: Journal, after: float) -> int:
    """How many operations were begun on other load balancers while one change waited; the most of all changes.

    Counted from ``after`` seconds after its acceptance on, and as long again for each operation on its load balancer
    that came to nothing: for that time a dead or frozen worker may have its lease.
    """
    return max(
        bisect(journal.begun, change.begun)
        - bisect(journal.begun, min(change.begun, change.accepted + after * (1 + change.failed)))
        for change in journal.changes
    )


def _begun(change: Any, done: Sequence[Any]) -> float:
    """When a change's waiting was over, by the operations of its load balancer that ended well, oldest first.

    An operation may take up later generations than the one it began with: where none began with the change's or a
    later one, the last operation did.
    """
    return float(next((row.started for row in done if row.generation >= change.generation), done[-1].started))
