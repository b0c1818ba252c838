"""Tavia's four services as real processes, as many of each as wanted, on one database and without a single guest.

Drivers are the noop ones unless ``settings`` say otherwise. Each process has a configuration file, a log and a name in
the journal (``[DEFAULT] host``) of its own. Everything dies with the thread that started it, so do not start services
from a thread that ends before they shall.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
from instance import eventually
from ports import free_port

from tavia.api.server import PROCESSES
from tavia.cli.api_client import ApiClient, Json
from tavia.cli.embedded import Settings, render
from tavia.store import migrate

ADDRESS = "127.0.0.1"
SUBNET = "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33"
"""Any id would do: the noop network driver knows every subnet."""
STOP_TIMEOUT = 15.0
NOOP: Settings = {
    "api_settings": {"auth_strategy": "noauth", "bind_host": ADDRESS},
    "controller_worker": {
        "amphora_driver": "amphora_noop_driver",
        "compute_driver": "compute_noop_driver",
        "network_driver": "network_noop_driver",
        "image_driver": "image_noop_driver",
    },
}


class Service:
    """One process. ``name`` is its host in the journal too."""

    def __init__(self, program: str, name: str, directory: Path, settings: Settings, enter: Sequence[str] = ()) -> None:
        """``enter``: a command that leads into a namespace first."""
        self.name = name
        self.config_file = directory / f"{name}.conf"
        self.log = directory / f"{name}.log"
        self._program = program
        self._enter = enter
        self._process: subprocess.Popen[bytes] | forked.Forked | None = None
        self.config_file.touch(mode=0o600)
        self._settings = settings
        self.configure({})

    def configure(self, settings: Settings) -> None:
        """Change its file; it notices when it is started or told by :meth:`hang_up`."""
        self._settings = merged(self._settings, settings)
        self.config_file.write_text(render(self._settings))

    def option(self, group: str, name: str) -> str:
        """What its file says."""
        return self._settings[group][name]

    @property
    def processes(self) -> int:
        """How many read its file: the API's arbiter has children that serve."""
        return 1 + PROCESSES if self._program == "tavia-api" else 1

    @property
    def pid(self) -> int:
        """Of the process as it runs now, or ran last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; a second time after it ended."""
        assert not self.running, f"{self.name} runs already"
        arguments = ("--config-file", str(self.config_file))
        if not self._enter:
            self._process = forked.start(self._program, *arguments, out=self.log)
            return
        command = (*self._enter, str(Path(sys.executable).parent / self._program), *arguments)
        with self.log.open("ab") as log:
            # A session of its own: the API's master process has children that must not outlive it.
            self._process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def takes_signals(self) -> bool:
        """Whether it has begun to work: a signal before that ends it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (caught,) = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
        return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)

    def stop(self) -> int:
        """Ask it to end, and wait until it has; its exit status."""
        self._signal(signal.SIGTERM)
        return self._wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End it with kill -9, the API's children too."""
        self._signal(signal.SIGKILL)
        self._wait(STOP_TIMEOUT)

    def hang_up(self) -> None:
        """SIGHUP: have it read its file again."""
        os.kill(self.pid, signal.SIGHUP)

    def reload(self, settings: Settings) -> None:
        """Have it take over other values; return when all its processes have."""
        before = self._reloads
        self.configure(settings)
        self.hang_up()
        eventually(lambda: self._reloads == before + self.processes, f"{self.name} reloaded")

    @property
    def _reloads(self) -> int:
        return self.log.read_text().count("Configuration reloaded")

    def tell_to_stop(self) -> None:
        """SIGTERM, and no wait."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_TIMEOUT) -> int:
        """Until it has ended; its exit status."""
        return self._wait(seconds)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def tavia(self, *words: str) -> str:
        """What the operator's command says, with this service's configuration file."""
        command = [str(Path(sys.executable).parent / "tavia"), *words, "--config-file", str(self.config_file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def close(self) -> None:
        """Leave nothing of it running."""
        if self.running:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if not self.running:
            return
        if number is signal.SIGTERM:
            os.kill(self.pid, number)  # the API's master tells its children itself
        else:
            os.killpg(self.pid, number)

    def _wait(self, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)


class Controllers:
    """Make it with :func:`controllers`."""

    def __init__(
        self,
        directory: Path,
        connection: str,
        transport_url: str | None,
        settings: Settings,
        client: Callable[[str], ApiClient] = ApiClient,
    ) -> None:
        self.connection = connection
        self.services: list[Service] = []
        self.api: ApiClient
        """A client of the API that was started first."""
        self._directory = directory
        self._client = client
        self._ports: dict[str, str] = {}
        common = {"DEFAULT": {"transport_url": transport_url}} if transport_url else {}
        ours: Settings = {
            "database": {"connection": connection},
            "health_manager": {"heartbeat_key": secrets.token_urlsafe(32), "bind_ip": ADDRESS},
            "tavia": {"state_dir": str(directory)},
        }
        self._settings = merged(NOOP, ours, common, settings)

    # -- processes ------------------------------------------------------------------------------------------------

    def add_api(self, settings: Settings | None = None) -> Service:
        """One more ``tavia-api``; returns when it answers. :meth:`url` leads to it."""
        port = str(free_port())
        service = self._add("tavia-api", {"api_settings": {"bind_port": port}}, settings)
        client = self._client(self.url(service))
        eventually(lambda: self._runs(service) and client.call("GET", "/lbaas/loadbalancers?limit=1"), service.name)
        if not hasattr(self, "api"):
            self.api = client
        return service

    def add_worker(self, settings: Settings | None = None) -> Service:
        """One more ``tavia-worker``."""
        return self._add("tavia-worker", {}, settings)

    def add_health_manager(self, settings: Settings | None = None) -> Service:
        """One more ``tavia-health-manager``, on a UDP port of its own."""
        port = str(free_port(socket.SOCK_DGRAM))
        return self._add("tavia-health-manager", {"health_manager": {"bind_port": port}}, settings)

    def add_housekeeping(self, settings: Settings | None = None) -> Service:
        """One more ``tavia-housekeeping``."""
        return self._add("tavia-housekeeping", {}, settings)

    def url(self, api: Service) -> str:
        """Where a ``tavia-api`` listens."""
        return f"http://{ADDRESS}:{self._ports[api.name]}"

    def named(self, program: str) -> list[Service]:
        """Those of one program, such as ``tavia-worker``, oldest first."""
        return [service for service in self.services if service.name.startswith(f"{program}-")]

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {s.name}\n{s.log.read_text()[-5000:]}" for s in self.services)

    def close(self) -> None:
        """Leave nothing running."""
        for service in self.services:
            service.close()

    def _add(self, program: str, own: Settings, given: Settings | None) -> Service:
        name = f"{program}-{len(self.named(program)) + 1}"
        settings = merged(self._settings, {"DEFAULT": {"host": name}}, own, given or {})
        service = Service(program, name, self._directory, settings)
        self.services.append(service)
        if program == "tavia-api":
            self._ports[name] = settings["api_settings"]["bind_port"]
        service.start()
        return service

    def _runs(self, service: Service) -> bool:
        assert service.running, f"{service.name} ended: {service.log.read_text()[-2000:]}"
        return True

    # -- load balancers -------------------------------------------------------------------------------------------

    def create_tree(self, name: str = "tree", members: int = 2, client: ApiClient | None = None) -> Json:
        """POST a load balancer with listener, pool, members and health monitor at once; the API's answer."""
        made: Json = (client or self.api).call("POST", "/lbaas/loadbalancers", {"loadbalancer": tree(name, members)})
        return dict(made["loadbalancer"])

    def show(self, loadbalancer_id: str, client: ApiClient | None = None) -> Json:
        """The load balancer as the API shows it. Raises SeamError once it is gone."""
        shown: Json = (client or self.api).call("GET", f"/lbaas/loadbalancers/{loadbalancer_id}")["loadbalancer"]
        return shown

    def await_active(self, loadbalancer_id: str, seconds: float = 60.0) -> Json:
        """Return when all that was accepted is applied."""

        def active() -> Json | None:
            shown = self.show(loadbalancer_id)
            return shown if shown["provisioning_status"] == "ACTIVE" else None

        return eventually(active, f"load balancer {loadbalancer_id} is ACTIVE", seconds)

    def await_gone(self, loadbalancer_id: str, seconds: float = 60.0) -> None:
        """Return when the API knows it no more."""
        path = f"/lbaas/loadbalancers?id={loadbalancer_id}"
        eventually(
            lambda: not self.api.call("GET", path)["loadbalancers"], f"load balancer {loadbalancer_id} is gone", seconds
        )


def tree(name: str, members: int = 2) -> Json:
    """The body of a load balancer with one listener, its pool, members and health monitor."""
    pool: dict[str, Any] = {
        "name": f"{name}-pool",
        "protocol": "HTTP",
        "lb_algorithm": "ROUND_ROBIN",
        "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2},
        "members": [{"address": f"192.0.2.{number}", "protocol_port": 80} for number in range(1, members + 1)],
    }
    listener = {"name": f"{name}-http", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    return {"name": name, "vip_subnet_id": SUBNET, "listeners": [listener]}


def merged(*all_settings: Settings) -> Settings:
    """One of all; later ones win."""
    merged: dict[str, dict[str, str]] = {}
    for settings in all_settings:
        for group, options in settings.items():
            merged.setdefault(group, {}).update(options)
    return merged


@contextmanager
def controllers(
    directory: Path,
    connection: str,
    *,
    apis: int = 1,
    workers: int = 1,
    health_managers: int = 0,
    housekeepers: int = 0,
    transport_url: str | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    client: Callable[[str], ApiClient] = ApiClient,
) -> Iterator[Controllers]:
    """Services on the database at this URL, which is brought to this release's schema; afterwards none runs.

    ``directory`` takes configuration files, logs and wake-up sockets. ``settings`` are for all processes; the methods
    ``add_...`` take more for one of them. ``client`` makes a client of the API at a URL.
    """
    migrate.upgrade(connection)
    made = Controllers(directory, connection, transport_url, settings or {}, client)
    try:
        for number, add in (
            (workers, made.add_worker),
            (health_managers, made.add_health_manager),
            (housekeepers, made.add_housekeeping),
            (apis, made.add_api),  # last: it waits until it answers
        ):
            for _ in range(number):
                add()
        yield made
    except BaseException:
        print(made.logs())
        raise
    finally:
        made.close()
