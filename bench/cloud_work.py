"""What bench.cloud does and measures. Times are seconds since the epoch: the database, which times the journal's steps,
is on this machine.

A boot is Nova's from the request for the server until Nova says that it is ACTIVE, then the guest's until its agent
takes connections. Before and after it Tavia waits for answers, of the cloud's APIs and of agents. All else of the time
is Tavia's own. HTTP requests are counted and timed on the way, by the proxies that are Nova's, Neutron's and Glance's
addresses in the catalog which Tavia is given.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from amphora_image import uploaded
from bench.figures import Figure
from instance import eventually
from mariadb import MariaDb
from openstack_cloud import find_cloud
from outage import outage_of
from rabbitmq import RabbitMQ
from served import await_served
from tavia_on_cloud import BOOT_SECONDS, TaviaOnCloud, tavia_on_cloud
from tenant import TenantServer

from tavia.cli.api_client import Json

AGENT_PORT = 9443
LOOK = 0.02
NOVA_LOOK = 0.2
OURS_GOAL = 2.0
TAKEOVER_GOAL = 5.0
"""Adverts every second, three missed, then the other half's gratuitous ARP, on an emulated processor."""
ASKS_AGENT = ("await-agent", "push-bundle")
"""Steps that an agent answers: on an emulated processor a TLS handshake takes a second."""
SERVICES = {"compute": "Nova", "network": "Neutron", "image": "Glance"}


@dataclass(frozen=True)
class Stand:
    """A Tavia on the cloud without its housekeeping, which asks the cloud now and then, and a server with members."""

    tavia: TaviaOnCloud
    server: TenantServer


@contextmanager
def stand() -> Iterator[Stand]:
    """Everything that it takes; nothing of it is left afterwards. Raises NoCloud."""
    cloud = find_cloud()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tavia-bench-")))
        mariadb = MariaDb.start(directory / "mariadb")
        stack.callback(mariadb.kill)
        rabbitmq = RabbitMQ(directory / "rabbitmq")
        stack.callback(rabbitmq.close)
        rabbitmq.start()
        tag = stack.enter_context(uploaded(cloud))
        tavia = stack.enter_context(
            tavia_on_cloud(cloud, directory, mariadb.create_database(), tag, transport_url=rabbitmq.url)
        )
        for service in tavia.controllers.named("tavia-housekeeping"):
            service.stop()
        server = stack.enter_context(tavia.tenant.server("tavia-bench"))
        server.serve(8081, 8082)
        yield Stand(tavia, server)


@dataclass
class Watched:
    """When what was seen of amphorae that boot, by their ids; :func:`watching` fills it."""

    is_active: dict[str, float] = field(default_factory=dict)
    agent_answers: dict[str, float] = field(default_factory=dict)


@contextmanager
def watching(tavia: TaviaOnCloud, loadbalancer_id: Callable[[], str | None]) -> Iterator[Watched]:
    """Look from outside at the load balancer's amphorae that boot while the block runs."""
    seen, done = Watched(), threading.Event()

    def look_on() -> None:
        next_look = 0.0
        while not done.wait(LOOK):
            known = loadbalancer_id()
            booting = [a for a in tavia.amphorae(known) if a["status"] == "BOOTING"] if known else []
            ask_nova = time.monotonic() > next_look
            for amphora in booting:
                if ask_nova and amphora["compute_id"] and amphora["id"] not in seen.is_active:
                    next_look = time.monotonic() + NOVA_LOOK
                    if tavia.cloud.admin.compute.get_server(amphora["compute_id"]).status == "ACTIVE":
                        seen.is_active[amphora["id"]] = time.time()
                elif amphora["id"] in seen.is_active and amphora["id"] not in seen.agent_answers:
                    with suppress(OSError), socket.create_connection((amphora["lb_network_ip"], AGENT_PORT), LOOK):
                        seen.agent_answers[amphora["id"]] = time.time()

    looking = threading.Thread(target=look_on)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


@dataclass
class Split:
    """Where the seconds of some boots went."""

    total: list[float] = field(default_factory=list)
    nova: list[float] = field(default_factory=list)
    guest: list[float] = field(default_factory=list)
    apis: list[float] = field(default_factory=list)
    agents: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def add(self, tavia: TaviaOnCloud, loadbalancer_id: str, begun: float, ended: float, seen: Watched) -> None:
        """One more, by the amphora that was last."""
        last = max(seen.agent_answers, key=lambda amphora_id: seen.agent_answers[amphora_id])
        steps = [row for row in tavia.steps(loadbalancer_id) if row["ended"] and row["ended"] > begun]
        asked = next(row["started"] for row in steps if row["what"] == "boot-server" and row["subject"] == last)
        active, answers = seen.is_active[last], seen.agent_answers[last]
        outside = ((begun, asked), (answers, ended))
        apis = [times for door in tavia.region.doors.values() for times in door.answering]
        agents = [(row["started"], row["ended"]) for row in steps if row["what"] in ASKS_AGENT]
        self.total.append(ended - begun)
        self.nova.append(active - asked)
        self.guest.append(answers - active)
        self.apis.append(sum(covered(apis, *window) for window in outside))
        self.agents.append(sum(covered([*apis, *agents], *window) for window in outside) - self.apis[-1])
        self.ours.append(self.total[-1] - (answers - asked) - self.apis[-1] - self.agents[-1])

    def figures(self, what: str) -> Iterator[Figure]:
        yield Figure(what=what, unit="s", samples=self.total)
        yield Figure(what="of it Nova's, until the server is ACTIVE", unit="s", samples=self.nova)
        yield Figure(what="of it the guest's, until its agent answers", unit="s", samples=self.guest)
        yield Figure(what="of it answers of Nova, Neutron and Glance, before and after", unit="s", samples=self.apis)
        yield Figure(
            what="of it answers of agents, to the first question and to bundles", unit="s", samples=self.agents
        )
        yield Figure(what="of it Tavia's own", unit="s", samples=self.ours, goal=OURS_GOAL)


def covered(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds from ``begin`` to ``end`` that lie in at least one interval."""
    seconds, at = 0.0, begin
    for first, last in sorted(intervals):
        if last > at and first < end:
            seconds += min(last, end) - max(first, at)
            at = min(last, end)
    return seconds


class Counts:
    """HTTP requests to the cloud while something happens."""

    def __init__(self, tavia: TaviaOnCloud) -> None:
        self._doors = tavia.region.doors
        self.samples: dict[str, list[float]] = {service: [] for service in self._doors}

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = {service: door.requests.total() for service, door in self._doors.items()}
        yield
        for service, door in self._doors.items():
            self.samples[service].append(door.requests.total() - before[service])

    def figures(self, what: str) -> Iterator[Figure]:
        for service, samples in self.samples.items():
            yield Figure(what=f"HTTP requests to {SERVICES[service]}: {what}", unit="", samples=samples)


def tree(stand: Stand, name: str) -> Json:
    """Attributes of a load balancer with a listener, a pool and two members."""
    subnet = stand.tavia.cloud.tenant_subnet.id
    members = [
        {"address": stand.server.address, "protocol_port": port, "subnet_id": subnet, "name": str(port)}
        for port in (8081, 8082)
    ]
    pool = {"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    return {"listeners": [{"name": name, "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}]}


def create(stand: Stand, repeats: int) -> Iterator[Figure]:
    """A SINGLE load balancer by one POST, a member more, and its end."""
    tavia, split = stand.tavia, Split()
    creating, changing, deleting = Counts(tavia), Counts(tavia), Counts(tavia)
    for _ in range(repeats):
        known: list[str] = []
        with watching(tavia, lambda known=known: known[0] if known else None) as seen, creating.counting():  # type: ignore[misc]
            begun = time.time()
            made = tavia.create("bench", **tree(stand, "bench"))
            known.append(made["id"])
            tavia.await_status(made["id"], "ACTIVE")
            split.add(tavia, made["id"], begun, time.time(), seen)
        with changing.counting():
            member = {"address": stand.server.address, "protocol_port": 8083}
            tavia.api.call("POST", f"/lbaas/pools/{made['pools'][0]['id']}/members", {"member": member})
            tavia.await_status(made["id"], "ACTIVE")
        with deleting.counting():
            tavia.delete(made["id"])
    yield from split.figures("POST of a SINGLE load balancer -> ACTIVE")
    yield from creating.figures("a SINGLE load balancer is created")
    yield from changing.figures("a member is added")
    yield from deleting.figures("it is deleted")


@contextmanager
def balancer(stand: Stand, name: str) -> Iterator[tuple[Json, str]]:
    """One that serves, and its address outside."""
    made = stand.tavia.create(name, **tree(stand, name))
    stand.tavia.await_status(made["id"], "ACTIVE", 2 * BOOT_SECONDS)
    with stand.tavia.tenant.floating_ip(made["vip_port_id"]) as outside:
        await_served(outside, "8081", "8082")
        yield made, outside
    stand.tavia.delete(made["id"])


def failover(stand: Stand, repeats: int) -> Iterator[Figure]:
    """Of a SINGLE load balancer, on request."""
    tavia, split, outages = stand.tavia, Split(), []
    with balancer(stand, "bench-failover") as (made, outside):
        for _ in range(repeats):
            ended: list[float] = []

            def is_over(ended: list[float] = ended) -> bool:
                if _is_whole(tavia, made, 1):
                    ended.append(time.time())
                return bool(ended)

            with watching(tavia, lambda: made["id"]) as seen:
                begun: list[float] = []

                def ask(begun: list[float] = begun) -> None:
                    begun.append(time.time())
                    tavia.api.call("PUT", f"/lbaas/loadbalancers/{made['id']}/failover")

                outages.append(outage_of(outside, ask, is_over))
            split.add(tavia, made["id"], begun[0], ended[0], seen)
    yield from split.figures("failover of a SINGLE load balancer on request -> ACTIVE")
    yield Figure(what="its clients are not served meanwhile", unit="s", samples=outages)


def takeover(stand: Stand, repeats: int) -> Iterator[Figure]:
    """The master's server of a pair is killed; the other half takes the VIP, and a third server is booted."""
    tavia, outages = stand.tavia, []
    with tavia.topology("ACTIVE_STANDBY"), balancer(stand, "bench-pair") as (made, outside):
        for _ in range(repeats):
            eventually(lambda: _is_whole(tavia, made, 2), "the pair is whole", 2 * BOOT_SECONDS)
            master = eventually(lambda: tavia.vrrp_master(made["id"]), "one half is the master")
            outages.append(
                outage_of(
                    outside,
                    lambda master=master: tavia.cloud.kill_server(master["compute_id"]),  # type: ignore[misc]
                    lambda master=master: tavia.vrrp_masters(made["id"]).keys() - {master["id"]},  # type: ignore[misc]
                )
            )
    yield Figure(
        what="outage when the master's server of a pair is killed, adverts every second",
        unit="s",
        samples=outages,
        goal=TAKEOVER_GOAL,
    )


def _is_whole(tavia: TaviaOnCloud, made: Json, amphorae: int) -> bool:
    rows = tavia.amphorae(made["id"])
    is_whole = len(rows) == amphorae and all(row["status"] == "ALLOCATED" for row in rows)
    return is_whole and tavia.show(made["id"])["provisioning_status"] == "ACTIVE"
