"""Several of each service on one MariaDB and RabbitMQ drive real amphorae, under traffic, while workers are disturbed.

The instance's own services are ended but for its cloud; others, each with a configuration file of its own, take their
place.
"""

from __future__ import annotations

import configparser
import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from socketserver import BaseRequestHandler

import churn
import pytest
from churn import Client, Wanted
from controllers import Service, merged
from instance import CONTROLLERS, Balancer, Instance, Listening, eventually, running
from local_cloud import within
from mariadb import MariaDb
from ports import free_port
from rabbitmq import RabbitMQ

from tavia.cli.api_client import ApiClient
from tavia.cli.embedded import API_HOST, FABRIC_SERVICES, HEARTBEAT_PORT
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.local.networks import CONTROLLER_ADDRESS
from tavia.store.database import Database

BALANCERS = 10
CLIENTS = 5
LEASE_TTL = 2.0
HOW_MANY = {"tavia-api": 2, "tavia-worker": 3, "tavia-health-manager": 2, "tavia-housekeeping": 2}


class Stand:
    """The instance, and the services that took the place of its own."""

    def __init__(self, instance: Instance, mariadb: MariaDb, rabbitmq: RabbitMQ) -> None:
        self.instance = instance
        self.transport_url = rabbitmq.url
        # The fabric has a loopback of its own: only the socket in the file system leads out of it.
        self.connection = f"{mariadb.migrated_database()}&unix_socket={mariadb.directory / 'mysqld.sock'}"
        self.services: dict[str, list[Service]] = {program: [] for program in HOW_MANY}
        self.api_ports = [str(free_port()) for _ in range(HOW_MANY["tavia-api"])]
        instance.kill(instance.supervisor(), *map(instance.service, CONTROLLERS))
        for program, number in HOW_MANY.items():
            for index in range(number):
                self._start(program, index)
        instance.database = Database.connect(self.connection)
        instance.api = ApiClient(self.urls[0])
        for url in self.urls:
            eventually(partial(ApiClient(url).call, "GET", "/lbaas/loadbalancers"), f"{url} answers")

    @property
    def urls(self) -> list[str]:
        return [f"http://{API_HOST}:{port}" for port in self.api_ports]

    def _start(self, program: str, index: int) -> None:
        embedded = self.instance.embedded
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(embedded.config_file)
        heartbeat_ports = [HEARTBEAT_PORT + number for number in range(HOW_MANY["tavia-health-manager"])]
        own = {
            "DEFAULT": {"host": f"{program}-{index}", "transport_url": self.transport_url},
            "api_settings": {"bind_port": self.api_ports[index % len(self.api_ports)]},
            "database": {"connection": self.connection},
            "health_manager": {
                "bind_port": str(heartbeat_ports[index % len(heartbeat_ports)]),
                "controller_ip_port_list": ",".join(f"{CONTROLLER_ADDRESS}:{port}" for port in heartbeat_ports),
                "heartbeat_timeout": "60",
            },
            # Octavia's defaults: with the instance's own, for quick reactions, a machine this busy is itself a failure.
            "keepalived_vrrp": {"vrrp_advert_int": "1"},
            "tavia": {"lease_ttl": str(LEASE_TTL)},
        }
        settings = merged({group: dict(parser[group]) for group in parser.sections()}, own)
        enter = ["nsenter", f"--net={NETNS_DIR / embedded.instance.fabric}"] if program in FABRIC_SERVICES else []
        service = Service(program, own["DEFAULT"]["host"], embedded.log_dir, settings, enter)
        self.services[program].append(service)
        service.start()

    def close(self) -> None:
        for service in itertools.chain.from_iterable(self.services.values()):
            service.close()


@pytest.fixture
def stand(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDb, rabbitmq: RabbitMQ) -> Iterator[Stand]:
    with (
        running(tmp_path_factory.mktemp("many") / "s") as instance,
        led_into(instance.embedded.instance.fabric, rabbitmq.port),
    ):
        made = Stand(instance, mariadb, rabbitmq)
        try:
            yield made
        finally:
            print(instance.logs())
            made.close()


@contextmanager
def led_into(namespace: str, port: int) -> Iterator[None]:
    """A port of our loopback is one of the namespace's loopback too."""

    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((API_HOST, port)) as there:
                back = threading.Thread(target=pass_on, args=(there, self.request), daemon=True)
                back.start()
                pass_on(self.request, there)
                back.join()

    server = within(namespace, lambda: Listening((API_HOST, port), Relay))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """All that comes, and its end."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def wanted(balancer: Balancer) -> Wanted:
    weights = dict.fromkeys(balancer.members.values(), 1)
    limit = balancer.change("GET", f"listeners/{balancer.listener_id}")["listener"]["connection_limit"]
    return Wanted(balancer.id, balancer.listener_id, balancer.pool_id, balancer.show()["name"], limit, weights)


def run_the_last_generation(stand: Stand) -> bool:
    """Whether every amphora says in its heartbeats that it runs what its load balancer should be."""
    behind = (
        "SELECT a.id FROM amphora a JOIN load_balancer b ON b.id = a.loadbalancer_id "
        "LEFT JOIN amphora_health h ON h.amphora_id = a.id "
        "WHERE a.status = 'ALLOCATED' AND (h.generation IS NULL OR h.generation <> b.generation)"
    )
    return not stand.instance.rows(behind)


@pytest.mark.timeout(600)
def test_clients_notice_nothing_while_workers_die_and_every_amphora_runs_the_last_change(stand: Stand) -> None:
    """First all are posted at once and changed without waiting, while their amphorae boot; then again under traffic."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    instance = stand.instance
    clients = [Client(stand.urls[number % len(stand.urls)]) for number in range(CLIENTS)]
    shares: list[list[Wanted]] = []
    balancers: list[Balancer] = []

    def post(number: int) -> list[Wanted]:
        """The share of one client, through an API of its own."""
        api = ApiClient(stand.urls[number % len(stand.urls)])
        names = [f"lb-{number}-{one}" for one in range(BALANCERS // CLIENTS)]
        made = [instance.balancer(name, monitored=False, api=api) for name in names]
        balancers.extend(made)
        return [wanted(balancer) for balancer in made]

    def post_and_change() -> None:
        with ThreadPoolExecutor(CLIENTS) as threads:
            shares.extend(threads.map(post, range(CLIENTS)))
        churn.churn(clients, shares, churn.change, seed)
        eventually(lambda: not churn.not_applied(instance.database), "all load balancers are ACTIVE", 120.0)

    workers, chance = stand.services["tavia-worker"], random.Random(seed)
    with churn.in_background(post_and_change) as over:
        churn.disturb(workers, 2 * LEASE_TTL, chance, over)
    for balancer in balancers:
        balancer.await_served_by("red", "green")

    def change_until_a_worker_was_lost() -> None:
        churn.churn(clients, shares, churn.change, seed + CLIENTS)
        deadline = time.monotonic() + 120
        while not churn.lost(instance.database) and time.monotonic() < deadline:
            churn.churn(clients, shares, churn.change, seed + CLIENTS)

    with ExitStack() as traffic:
        seen = [traffic.enter_context(instance.traffic(balancer, pause=0.05)) for balancer in balancers]
        with churn.in_background(change_until_a_worker_was_lost) as over:
            churn.disturb(workers, 2 * LEASE_TTL, chance, over)
        eventually(lambda: not churn.not_applied(instance.database), "all load balancers are ACTIVE", 120.0)
        eventually(lambda: run_the_last_generation(stand), "all amphorae run the last generation")

    everything = list(itertools.chain.from_iterable(shares))
    assert [one.seen(clients[0]) for one in everything] == everything
    assert churn.generations(instance.database) == {one.id: 1 + one.changes for one in everything}
    journal = churn.journal(instance.database)
    assert journal.overlaps == []
    assert journal.lost > 0, "no worker was killed at work"
    assert len(journal.hosts) > 1
    assert [one.failures for one in seen] == [[]] * BALANCERS
    assert min(len(one.answers) for one in seen) > 20
