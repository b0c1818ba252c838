"""What a change costs the database, as the server counts it: API and worker, from the request to ACTIVE, no guests.

The figures are exact, so that one statement more is seen. Who adds one on purpose changes the figure. A ping, which a
transaction takes too, is no statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import world
from controllers import NOOP, merged, tree
from falcon.testing import TestClient
from instance import eventually
from mariadb import MariaDb

from tavia import config, pki
from tavia.api.service import application
from tavia.cli.embedded import render
from tavia.model.resources import Pool
from tavia.pki import Authority
from tavia.store import intents
from tavia.worker.loop import Loop
from tavia.worker.service import build


@dataclass(frozen=True)
class Cost:
    """``statements`` are all that the server was sent, and so many of them were COMMIT."""

    statements: int
    commits: int


class Log:
    """The server's own log of what it was asked."""

    def __init__(self, server: MariaDb) -> None:
        self._server = server
        server.sql("SET GLOBAL log_output = 'TABLE'")

    def cost_of(self, work: Callable[[], object]) -> Cost:
        with self._server.connect() as ours:
            ours.execute("TRUNCATE TABLE mysql.general_log")
            ours.execute("SET GLOBAL general_log = ON")
            try:
                work()
            finally:
                ours.execute("SET GLOBAL general_log = OFF")
            ours.execute("SELECT argument FROM mysql.general_log WHERE command_type = 'Query'")
            asked = ours.fetchall()
        words = Counter(str(statement).split(maxsplit=1)[0].upper() for (statement,) in asked)
        assert words.pop("SET") == 1, "our own, which ends the log: a connection is prepared once"
        assert set(words) <= {"SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT"}, words
        return Cost(words.total(), words["COMMIT"])


class Deployment:
    """API and worker of one process; the worker looks when it is told to."""

    def __init__(self, directory: Path, connection: str) -> None:
        own = {
            "database": {"connection": connection},
            "health_manager": {"heartbeat_key": "a-secret-of-this-test-only"},
            "tavia": {"state_dir": str(directory)},
        }
        (directory / "octavia.conf").write_text(render(merged(NOOP, own)))
        conf = config.load(["--config-file", str(directory / "octavia.conf")], "tavia-worker", [])
        app = application(conf)
        self._client = TestClient(lambda environ, start: app(environ, start))  # noqa: PLW0108 - it looks for a function
        self._loop: Loop = build(conf)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        given = {"json": body} if body else {}
        answer = self._client.simulate_request(method, f"/v2/lbaas{path}", host="127.0.0.1", **given)
        assert answer.status_code < 300, answer.text
        return answer.json if answer.text else None

    def change(self, method: str, path: str, body: Any = None) -> Any:
        """A request, and all that the worker does for it."""
        made = self.call(method, path, body)
        self._loop.take_due()
        eventually(lambda: not self._loop.unfinished(), "the worker has done it")
        return made

    def add_tree(self, name: str) -> Any:
        return self.change("POST", "/loadbalancers", {"loadbalancer": tree(name)})["loadbalancer"]

    def close(self) -> None:
        self._loop.stop()
        self._loop.run()


@pytest.fixture
def log(mariadb: MariaDb) -> Log:
    return Log(mariadb)


@pytest.fixture
def deployment(mariadb: MariaDb, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path, mariadb.migrated_database())
    yield made
    made.close()


def test_a_whole_tree_takes_50_statements(deployment: Deployment, log: Log) -> None:
    deployment.add_tree("opens the connections")
    assert log.cost_of(lambda: deployment.add_tree("counted")) == Cost(statements=50, commits=8)
    assert _statuses(deployment) == {"ACTIVE"}


def test_a_member_takes_25_statements_another_weight_29_its_end_28(deployment: Deployment, log: Log) -> None:
    members = f"/pools/{deployment.add_tree('counted')['pools'][0]['id']}/members"
    deployment.call("GET", members)  # opens a connection
    made: dict[str, Any] = {}

    def add() -> None:
        body = {"member": {"address": "192.0.2.9", "protocol_port": 80}}
        made.update(deployment.change("POST", members, body)["member"])

    assert log.cost_of(add) == Cost(statements=25, commits=4)
    one = f"{members}/{made['id']}"
    changed = log.cost_of(lambda: deployment.change("PUT", one, {"member": {"weight": 5}}))
    assert changed == Cost(statements=29, commits=5)
    assert log.cost_of(lambda: deployment.change("DELETE", one)) == Cost(statements=28, commits=5)
    assert _statuses(deployment) == {"ACTIVE"}


def test_a_failover_takes_60_statements_and_the_end_of_a_tree_34(deployment: Deployment, log: Log) -> None:
    path = f"/loadbalancers/{deployment.add_tree('counted')['id']}"
    deployment.call("GET", path)  # opens a connection
    assert log.cost_of(lambda: deployment.change("PUT", f"{path}/failover")) == Cost(statements=60, commits=12)
    assert _statuses(deployment) == {"ACTIVE"}
    removed = log.cost_of(lambda: deployment.change("DELETE", f"{path}?cascade=true"))
    assert removed == Cost(statements=34, commits=6)
    assert _statuses(deployment) == set()


def test_looking_when_nothing_is_due_takes_one_statement(deployment: Deployment, log: Log) -> None:
    deployment.add_tree("counted")
    assert log.cost_of(deployment._loop.take_due) == Cost(statements=1, commits=0)


def test_with_agents_a_worker_asks_the_database_no_more(
    mariadb: MariaDb, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's part with the amphora driver's own steps, of a tree without monitor.

    It reads the deployment's id first and looks a second time, 2 more than above; the listener is not touched here.
    """
    monkeypatch.setattr(world, "mariadb", mariadb)
    pki.init(tmp_path)
    made = world.World(tmp_path, Authority.load(tmp_path / pki.SERVER_CA, tmp_path / pki.SERVER_CA_KEY, None))
    made.converge(made.create())
    loadbalancer = made.create()
    assert log.cost_of(lambda: made.converge(loadbalancer)) == Cost(statements=45, commits=9)
    member = made.member(made.tree(loadbalancer).of(Pool)[0], 2)
    made.change(loadbalancer, lambda conn, generation: intents.add(conn, member, generation))
    assert log.cost_of(lambda: made.converge(loadbalancer)) == Cost(statements=21, commits=5)


def _statuses(deployment: Deployment) -> set[str]:
    """Of load balancers and their members."""
    shown = deployment.call("GET", "/loadbalancers")["loadbalancers"]
    pools = deployment.call("GET", "/pools")["pools"]
    members = [m for pool in pools for m in deployment.call("GET", f"/pools/{pool['id']}/members")["members"]]
    return {row["provisioning_status"] for row in (*shown, *pools, *members)}
