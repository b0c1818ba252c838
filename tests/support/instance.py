"""A whole Tavia: ``tavia up`` on real namespaces, members that a test steers, and clients that ask through VIPs.

Members and clients are threads of the test's own process whose sockets were opened in a namespace of the network
demo-net. What the amphorae are made of is asked of the local cloud and the database, never of our own code's opinion.
"""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, TypeVar

import requester
from instance_driver import Driver, driving
from local_cloud import within
from ports import free_port
from requester import VIP_PORT, Seen, Unanswered, asking
from sqlalchemy import text

from tavia.cli import report
from tavia.cli.api_client import ApiClient, Json
from tavia.cloud.local.networks import DEMO_NET
from tavia.cloud.local.processes import Process
from tavia.cloud.protocols import Port, Server
from tavia.model.seams import SeamError
from tavia.store.database import Database

DEADLINE = 60.0
"""Seconds after which something awaited is a failure."""
CONTROLLERS = ("tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping")
MEMBERS_ADDRESS, CLIENT_ADDRESS = "198.19.0.240", "198.19.0.241"
T = TypeVar("T")


def eventually(condition: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """What the condition returns once it is true; it may raise OSError or SeamError until then."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
            last = found
        except (OSError, SeamError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what} (last seen: {last!r})")


class Listening(ThreadingTCPServer):
    """http.server's own class asks DNS for the name of its address, which no namespace of ours can."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """An amphora that is killed resets its connections: nothing to tell."""


class Member:
    """An HTTP server that answers with its name.

    ``/slow`` is answered by half, the rest follows when ``finish`` is set. While ``healthy`` is false all is 503.
    """

    def __init__(self, name: str, namespace: str, address: str = MEMBERS_ADDRESS) -> None:
        self.name = name
        self.healthy = True
        self.finish = threading.Event()
        self.slow_requests = 0
        self._server = within(namespace, lambda: Listening((address, 0), self._handler()))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self.finish.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        member = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if member.healthy else 503)
                self.send_header("Content-Length", str(2 * len(member.name)))
                self.end_headers()
                self.wfile.write(member.name.encode())
                if self.path == "/slow":
                    self.wfile.flush()
                    member.slow_requests += 1
                    member.finish.wait(DEADLINE)
                self.wfile.write(member.name.encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler


@dataclass
class Balancer:
    """One load balancer of the instance. ``members`` are the members' ids by name."""

    instance: Instance
    id: str
    vip: str
    vip_port_id: str
    listener_id: str
    pool_id: str
    members: dict[str, str]

    def show(self) -> Json:
        shown: Json = self.instance.api.call("GET", f"/lbaas/loadbalancers/{self.id}")["loadbalancer"]
        return shown

    def statuses(self) -> dict[str, str]:
        """The operating status of the load balancer ("lb"), "listener", "pool" and of each member by name."""
        tree = self.instance.api.call("GET", f"/lbaas/loadbalancers/{self.id}/status")["statuses"]["loadbalancer"]
        (listener,) = tree["listeners"]
        (pool,) = listener["pools"]
        of_members = {member["name"]: member["operating_status"] for member in pool["members"]}
        above = {name: row["operating_status"] for name, row in (("lb", tree), ("listener", listener), ("pool", pool))}
        return above | of_members

    def amphorae(self) -> list[Json]:
        """Those that are to carry traffic, the one in the role MASTER first."""
        path = f"/octavia/amphorae?loadbalancer_id={self.id}&status=ALLOCATED"
        found: list[Json] = self.instance.api.call("GET", path)["amphorae"]
        return sorted(found, key=lambda amphora: str(amphora["role"]), reverse=True)

    def halves(self) -> tuple[Json, Json]:
        """The amphora that holds the VIP, and the other: whatever their roles, the first to come up takes it."""

        def sorted_out() -> tuple[Json, Json] | None:
            one, other = self.amphorae()
            holds = {amphora["id"]: self._holds_vip(amphora) for amphora in (one, other)}
            if holds[one["id"]] == holds[other["id"]]:
                return None
            return (one, other) if holds[one["id"]] else (other, one)

        return eventually(sorted_out, f"one amphora holds the VIP {self.vip}")

    def _holds_vip(self, amphora: Json) -> bool:
        enter = ["nsenter", "-t", str(self.instance.pid_one(amphora).pid), "-n"]
        shown = subprocess.run([*enter, "ip", "-o", "addr", "show", "to", self.vip], capture_output=True, check=True)
        return bool(shown.stdout)

    def is_active(self) -> bool:
        return bool(self.show()["provisioning_status"] == "ACTIVE")

    def await_active(self) -> None:
        eventually(self.is_active, f"load balancer {self.id} is ACTIVE")

    def await_statuses(self, **wanted: str) -> None:
        def reached() -> bool:
            found = self.statuses()
            return all(found[name] == status for name, status in wanted.items())

        eventually(reached, f"{wanted} of {self.id}")

    def change(self, method: str, path: str, **attributes: Any) -> Json:
        """A request below ``/lbaas``; ``attributes`` is its body, the object's word first: ``member={...}``."""
        return self.instance.api.call(method, f"/lbaas/{path}", attributes or None)

    def member_path(self, name: str) -> str:
        return f"pools/{self.pool_id}/members/{self.members[name]}"

    def ask(self, path: str = "/") -> str | None:
        """Who answers one request through the VIP, from the client's namespace; None when nobody does in time."""
        try:
            return within(self.instance.client, lambda: _answer(self.vip, path))
        except Unanswered:
            return None

    def await_served(self) -> None:
        """Until a request is answered; an outage that a test causes ends here."""
        eventually(self.ask, f"somebody answers at the VIP {self.vip}")

    def await_served_by(self, *names: str) -> None:
        """Until each of these answers, and nobody else."""
        eventually(lambda: {self.ask() for _ in range(2 * len(names))} == set(names), f"served by {names}")

    def owned_servers(self) -> list[Server]:
        """The servers of its amphorae that the local cloud has, whatever the database says."""
        return [s for s in self.instance.cloud.servers() if s.tags & self._amphora_tags()]

    def owned_ports(self) -> list[Port]:
        """The same for ports, the VIP's among them."""
        wanted = self._amphora_tags() | {f"tavia-loadbalancer={self.id}"}
        return [p for p in self.instance.cloud.ports() if p.tags & wanted]

    def _amphora_tags(self) -> frozenset[str]:
        rows = self.instance.rows("SELECT id FROM amphora WHERE loadbalancer_id = :id", id=self.id)
        return frozenset(f"tavia-amphora={row['id']}" for row in rows)

    def operations(self) -> list[dict[str, Any]]:
        """The journal, oldest first."""
        sql = "SELECT * FROM operation WHERE loadbalancer_id = :id ORDER BY started"
        return self.instance.rows(sql, id=self.id)


def _answer(address: str, path: str = "/") -> str:
    """Who answers: a member says its name twice, in two halves."""
    body = requester.get(address, path, timeout=2.0 if path == "/" else DEADLINE)
    return body[: len(body) // 2]


class Instance:
    """A running Tavia. Make it with :func:`running`."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.embedded = driver.embedded
        self.cloud = driver.embedded.cloud
        self.api = ApiClient(driver.embedded.api_url)
        self.database = Database.connect(driver.embedded.database)
        network = next(n for n in self.cloud.networks() if n.name == DEMO_NET)
        self.subnet_id = network.subnet_ids[0]
        self.client = self.cloud.attach_host("client", network.id, CLIENT_ADDRESS)
        namespace = self.cloud.attach_host("members", network.id, MEMBERS_ADDRESS)
        self.members = {name: Member(name, namespace) for name in ("red", "green")}

    def close(self) -> None:
        for member in self.members.values():
            member.close()
        self.database.engine.dispose()

    # -- load balancers -----------------------------------------------------------------------------------------

    def balancer(
        self, name: str, protocol: str = "HTTP", *, monitored: bool = True, api: ApiClient | None = None
    ) -> Balancer:
        """Ask for a load balancer with listener, pool, all members and a monitor that notices within two seconds.

        ``api`` is asked in place of the instance's own.
        """
        api = api or self.api
        pool: Json = {
            "name": "pool",
            "protocol": protocol,
            "lb_algorithm": "ROUND_ROBIN",
            "members": [self.member_body(member) for member in self.members],
        }
        if monitored:
            quick = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}
            pool["healthmonitor"] = quick
        listener = {"name": "web", "protocol": protocol, "protocol_port": VIP_PORT, "default_pool": pool}
        body = {"name": name, "project_id": "tenant", "vip_subnet_id": self.subnet_id, "listeners": [listener]}
        made = api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})["loadbalancer"]
        pool_id = made["pools"][0]["id"]
        found = api.call("GET", f"/lbaas/pools/{pool_id}/members")["members"]
        return Balancer(
            self,
            made["id"],
            made["vip_address"],
            made["vip_port_id"],
            made["listeners"][0]["id"],
            pool_id,
            {member["name"]: member["id"] for member in found},
        )

    def member_body(self, name: str) -> Json:
        port = self.members[name].port
        return {"name": name, "address": MEMBERS_ADDRESS, "protocol_port": port, "subnet_id": self.subnet_id}

    def traffic(self, balancer: Balancer, pause: float = 0.01) -> AbstractContextManager[Seen]:
        """A client that asks all the time, each time with a new connection, while the block runs."""
        return asking(partial(_answer, balancer.vip), pause, partial(within, self.client))

    # -- processes ----------------------------------------------------------------------------------------------

    def service(self, name: str) -> Process:
        """The process of a service, as the supervisor reports it."""
        return eventually(lambda: self._running(name), f"{name} runs")

    def _running(self, name: str) -> Process | None:
        told = report.read(self.embedded.services_file)[name]
        return told.process if told.running else None

    def supervisor(self) -> Process:
        found = report.read_process(self.embedded.supervisor_file)
        assert found, "the supervisor does not run"
        return found

    def kill(self, *found: Process) -> None:
        """SIGKILL these and wait for their end."""
        for process in found:
            process.kill(10.0)

    def restart(self, name: str) -> None:
        """Kill a service with its children; return when the supervisor has another one running."""
        old = self.service(name)
        os.killpg(old.pid, signal.SIGKILL)
        eventually(lambda: self.service(name) != old, f"another {name} runs")

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """SIGSTOP services for the time of the block. A worker must hold no lease: it might be in a transaction."""
        if "tavia-worker" in names:
            eventually(lambda: not self.leases(), "all leases are given back")
        pids = [self.service(name).pid for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def configure(self, group: str, **options: str) -> None:
        """Change octavia.conf. Services read it when they start."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.embedded.config_file)
        parser[group].update(options)
        with self.embedded.config_file.open("w") as file:
            parser.write(file)

    def pid_one(self, amphora: Mapping[str, Any]) -> Process:
        """The process whose end is an amphora's power cut."""
        return self.server_process(amphora["compute_id"])

    def server_process(self, server_id: str) -> Process:
        record = self.embedded.instance.directory / "servers" / f"{server_id}.json"
        return Process(**json.loads(record.read_text())["process"])

    # -- the database -------------------------------------------------------------------------------------------

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.read() as conn:
            return [dict(row) for row in conn.execute(text(sql), values).mappings()]

    def execute(self, sql: str, **values: Any) -> None:
        """Change a row behind everybody's back."""
        self.database.write(lambda conn: conn.execute(text(sql), values))

    def leases(self) -> list[dict[str, Any]]:
        """Those that were not given back: a worker is at work, or died at it."""
        return self.rows("SELECT * FROM lease WHERE owner <> ''")

    def logs(self) -> str:
        """The end of every log, for a test that failed."""
        files = sorted(self.embedded.log_dir.glob("*.log"))
        return "\n".join(f"==> {path.name}\n{path.read_text(errors='replace')[-6000:]}" for path in files)


@contextmanager
def running(state_dir: Path) -> Iterator[Instance]:
    """An instance from nothing; afterwards nothing of it is left."""
    with driving(state_dir) as driver, ExitStack() as cleanup:
        driver.tavia("up", "--api-port", str(free_port()))
        instance = Instance(driver)
        cleanup.callback(instance.close)
        # A pair that hears nothing for three adverts changes places: of 0.1 s each that happens on a busy machine too.
        instance.configure("keepalived_vrrp", vrrp_advert_int="0.3")
        instance.restart("tavia-worker")
        yield instance
