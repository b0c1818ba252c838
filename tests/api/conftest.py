"""The API as clients meet it: the real WSGI app on a real SQLite database, with the cloud that does nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import world
from falcon.testing import Result, TestClient
from oslo_config import cfg
from sqlalchemy import event

from tavia import config
from tavia.api.app import Wsgi, create_app
from tavia.cloud import connect
from tavia.cloud.protocols import Cloud
from tavia.model.resources import Configured, LoadBalancer
from tavia.store import commits, reading, trees
from tavia.store.database import Database
from tavia.store.migrate import upgrade
from tavia.store.opening import open_database

SUBNET = "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33"


@dataclass
class Api:
    """A client of the API, and the hands of a worker."""

    client: TestClient
    database: Database
    cloud: Cloud
    conf: cfg.ConfigOpts

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Result:
        if body is not None:
            more["json"] = body
        prefix = (
            ""
            if path.startswith(("/v2", "/network")) or path in ("/", "/healthcheck", "/openapi.json")
            else "/v2/lbaas"
        )
        return self.client.simulate_request(method, f"{prefix}{path}", host="127.0.0.1", **more)

    def get(self, path: str, **more: Any) -> Any:
        """The body of a GET that must succeed."""
        result = self.request("GET", path, **more)
        assert result.status_code == 200, result.text
        return result.json

    def post(self, root: str, path: str, **attributes: Any) -> dict[str, Any]:
        """A new object; it must be accepted."""
        result = self.request("POST", path, {root: attributes})
        assert result.status_code == 201, result.text
        created: dict[str, Any] = result.json[root]
        return created

    def put(self, root: str, path: str, **attributes: Any) -> dict[str, Any]:
        """A change; it must be accepted."""
        result = self.request("PUT", path, {root: attributes})
        assert result.status_code == 200, result.text
        changed: dict[str, Any] = result.json[root]
        return changed

    def delete(self, path: str) -> None:
        result = self.request("DELETE", path)
        assert result.status_code == 204, result.text

    def refusal(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and fault string of a request that must fail."""
        result = self.request(method, path, body)
        assert result.status_code >= 400, result.text
        return result.status_code, result.json.get("faultstring") or result.json["description"]

    def loadbalancer(self, **attributes: Any) -> dict[str, Any]:
        return self.post("loadbalancer", "/loadbalancers", **({"vip_subnet_id": SUBNET} | attributes))

    def listener(self, loadbalancer_id: str, port: int = 80, **attributes: Any) -> dict[str, Any]:
        given = {"loadbalancer_id": loadbalancer_id, "protocol": "HTTP", "protocol_port": port} | attributes
        return self.post("listener", "/listeners", **given)

    def pool(self, **attributes: Any) -> dict[str, Any]:
        return self.post("pool", "/pools", **({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"} | attributes))

    def member(self, pool_id: str, address: str = "10.0.0.1", port: int = 80, **attributes: Any) -> dict[str, Any]:
        path = f"/pools/{pool_id}/members"
        return self.post("member", path, address=address, protocol_port=port, **attributes)

    def monitor(self, pool_id: str, **attributes: Any) -> dict[str, Any]:
        given = {"pool_id": pool_id, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2} | attributes
        return self.post("healthmonitor", "/healthmonitors", **given)

    def converge(self, loadbalancer_id: str) -> None:
        """What a worker commits after it applied everything."""
        generation = self.generation(loadbalancer_id)

        def commit(conn: Any) -> None:
            commits.commit_children(conn, trees.read_tree(conn, loadbalancer_id), {}, {})
            commits.commit_converged(conn, loadbalancer_id, generation)

        self.database.write(commit)

    def finish_delete(self, loadbalancer_id: str) -> None:
        """What a worker commits after it removed everything."""
        self.database.write(lambda conn: commits.commit_deleted(conn, loadbalancer_id))

    def row(self, resource: type[Configured], object_id: str) -> Any:
        with self.database.read() as conn:
            return reading.get(conn, resource, object_id)

    def generation(self, loadbalancer_id: str) -> int:
        generation: int = self.row(LoadBalancer, loadbalancer_id).generation
        return generation


TREE: dict[str, Any] = {
    "listeners": [
        {"protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "web"}},
        {
            "protocol": "TCP",
            "protocol_port": 81,
            "default_pool": {"name": "inline", "protocol": "TCP", "lb_algorithm": "SOURCE_IP"},
        },
    ],
    "pools": [
        {
            "name": "web",
            "protocol": "HTTP",
            "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": "10.0.0.1", "protocol_port": 80}, {"address": "10.0.0.2", "protocol_port": 80}],
            "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2},
        }
    ],
}


class Renewed:
    """A migrated database without rows for one test after the other, and what is kept of the API between them."""

    def __init__(self, directory: Path) -> None:
        self._empty, self._path = directory / "empty.sqlite", directory / "tavia.sqlite"
        self.connection = f"sqlite:///{self._path}"
        self.plain: Api | None = None
        upgrade(f"sqlite:///{self._empty}")

    def renew(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{suffix}").unlink(missing_ok=True)
        self._path.write_bytes(self._empty.read_bytes())
        if self.plain:
            self.plain.database.dispose()


@pytest.fixture(scope="session")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Renewed:
    return Renewed(tmp_path_factory.mktemp("database"))


class ApiFactory:
    """Makes the API with options set and a cloud of the test's choice, all on one database."""

    def __init__(self, directory: Path, connection: str) -> None:
        self._directory = directory
        self._connection = connection

    def __call__(self, cloud: Cloud | None = None, **options: dict[str, Any]) -> Api:
        groups: dict[str, dict[str, Any]] = {
            "api_settings": {"auth_strategy": "noauth"},
            "controller_worker": {
                "compute_driver": "compute_noop_driver",
                "network_driver": "network_noop_driver",
                "image_driver": "image_noop_driver",
            },
            "database": {"connection": self._connection},
            "health_manager": {"heartbeat_key": "not-used-here"},
        }
        for group, values in options.items():
            groups.setdefault(group, {}).update(values)
        path = self._directory / f"{uuid.uuid4()}.conf"
        lines = [
            line
            for group, values in groups.items()
            for line in (f"[{group}]", *(f"{k} = {v}" for k, v in values.items()))
        ]
        path.write_text("\n".join(lines))
        conf = config.load(["--config-file", str(path)], "tavia-api", [])
        database = open_database(conf.database.connection, conf.database)
        chosen = cloud or connect(conf)
        app = create_app(conf, database, chosen)
        return Api(TestClient(_function(app)), database, chosen, conf)


def _function(app: Wsgi) -> Wsgi:
    """Falcon's test client looks for a function's signature, which oslo.middleware's objects hide."""

    def call(environ: Any, start_response: Any) -> Any:
        return app(environ, start_response)

    return call


@pytest.fixture
def make_api(renewed: Renewed, tmp_path: Path) -> ApiFactory:
    if world.mariadb:
        return ApiFactory(tmp_path, world.mariadb.migrated_database())
    renewed.renew()
    return ApiFactory(tmp_path, renewed.connection)


@pytest.fixture
def api(make_api: ApiFactory, renewed: Renewed) -> Api:
    """The one without options, made once: a second takes longer than most tests."""
    if world.mariadb:
        return make_api()
    renewed.plain = renewed.plain or make_api()
    return renewed.plain


@pytest.fixture
def statements(api: Api) -> Iterator[list[str]]:
    """The SQL statements that ran since the list was last cleared."""
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engines = set(vars(api.database).values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
