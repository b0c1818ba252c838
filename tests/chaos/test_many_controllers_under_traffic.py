"""Several of each service on one MariaDB drive real amphorae, under traffic, while workers are killed and frozen.

The instance's own services are ended but for its cloud; others, each with a configuration file of its own, take their
place.
"""

from __future__ import annotations

import configparser
import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from socket import SOCK_STREAM

import churn
import pytest
from churn import Client, Wanted
from controllers import Service, free_port, merged
from instance import CONTROLLERS, Balancer, Instance, eventually, running
from mariadb import MariaDb

from tavia.cli.api_client import ApiClient
from tavia.cli.embedded import API_HOST, FABRIC_SERVICES, HEARTBEAT_PORT
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.local.networks import CONTROLLER_ADDRESS
from tavia.store.database import Database

BALANCERS = 10
LEASE_TTL = 2.0
HOW_MANY = {"tavia-api": 2, "tavia-worker": 3, "tavia-health-manager": 2, "tavia-housekeeping": 2}


class Stand:
    """The instance, and the services that took the place of its own."""

    def __init__(self, instance: Instance, mariadb: MariaDb) -> None:
        self.instance = instance
        # The fabric has a loopback of its own: only the socket in the file system leads out of it.
        self.connection = f"{mariadb.migrated_database()}&unix_socket={mariadb.directory / 'mysqld.sock'}"
        self.services: dict[str, list[Service]] = {program: [] for program in HOW_MANY}
        self.api_ports = [str(free_port(SOCK_STREAM)) for _ in range(HOW_MANY["tavia-api"])]
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
            "DEFAULT": {"host": f"{program}-{index}"},
            "api_settings": {"bind_port": self.api_ports[index % len(self.api_ports)]},
            "database": {"connection": self.connection},
            "health_manager": {
                "bind_port": str(heartbeat_ports[index % len(heartbeat_ports)]),
                "controller_ip_port_list": ",".join(f"{CONTROLLER_ADDRESS}:{port}" for port in heartbeat_ports),
            },
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
def stand(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDb) -> Iterator[Stand]:
    with running(tmp_path_factory.mktemp("many") / "s") as instance:
        made = Stand(instance, mariadb)
        try:
            yield made
        finally:
            print(instance.logs())
            made.close()


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
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    instance = stand.instance
    balancers = [instance.balancer(f"lb-{number}", monitored=False) for number in range(BALANCERS)]
    for balancer in balancers:
        balancer.await_active()
        balancer.await_served_by("red", "green")
    clients = [Client(url) for url in stand.urls]
    everything = [wanted(balancer) for balancer in balancers]
    shares = [everything[number :: len(clients)] for number in range(len(clients))]

    with ExitStack() as traffic:
        seen = [traffic.enter_context(instance.traffic(balancer, pause=0.05)) for balancer in balancers]
        with churn.in_background(lambda: churn.churn(clients, shares, churn.change, seed)) as over:
            churn.disturb(stand.services["tavia-worker"], 2 * LEASE_TTL, random.Random(seed), over)
        eventually(lambda: not churn.not_applied(instance.database), "all load balancers are ACTIVE", 120.0)
        eventually(lambda: run_the_last_generation(stand), "all amphorae run the last generation")

    assert [one.seen(clients[0]) for one in everything] == everything
    assert set(churn.generations(instance.database).values()) == {1 + churn.CHANGES}
    journal = churn.journal(instance.database)
    assert journal.overlaps == []
    assert len(journal.hosts) > 1
    assert [one.failed for one in seen] == [0] * BALANCERS
    assert min(len(one.answers) for one in seen) > 20
