"""The embedded instance: where its files are, how it is configured and which services it is made of.

Everything is found from the state directory, so that a command that comes after a crash needs nothing else.
"""

from __future__ import annotations

import configparser
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tavia.cli.supervisor import GRACEFUL_SHUTDOWN_TIMEOUT, Service
from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.instance import NETNS_DIR, Instance
from tavia.cloud.local.networks import CONTROLLER_ADDRESS, MGMT_NET
from tavia.model.seams import Seam, SeamError

Settings = Mapping[str, Mapping[str, str]]

API_HOST, API_PORT = "127.0.0.1", 9876
BACKLOG = 2048
"""Connections that wait until the API takes them: as many as where gunicorn listens by itself."""
HEARTBEAT_PORT = 5555
CLOUD = "tavia-local-cloud"
FABRIC_SERVICES = ("tavia-worker", "tavia-health-manager")
"""The services that talk to amphorae: they live in the fabric, where the management network is."""
API = "tavia-api"
CONTROLLERS = (API, *FABRIC_SERVICES, "tavia-housekeeping")
"""The services of every deployment, embedded or not."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One instance on this machine. Make it with :meth:`of`."""

    instance: Instance

    @classmethod
    def of(cls, state_dir: Path) -> Embedded:
        """The instance with this state directory, which need not exist yet."""
        return cls(Instance.of(state_dir))

    @property
    def state_dir(self) -> Path:
        """Everything of the instance that is a file."""
        return self.instance.state_dir

    @property
    def marker(self) -> Path:
        """Tells that the state directory is ours to remove."""
        return self.state_dir / ".tavia-state"

    @property
    def config_file(self) -> Path:
        """octavia.conf of all its services."""
        return self.state_dir / "octavia.conf"

    @property
    def log_dir(self) -> Path:
        """One log for each service, and the supervisor's."""
        return self.state_dir / "log"

    @property
    def certificates(self) -> Path:
        """What ``tavia certs init`` makes."""
        return self.state_dir / "certs"

    @property
    def database(self) -> str:
        """The URL of its database."""
        return f"sqlite:///{self.state_dir / 'tavia.sqlite'}"

    @property
    def supervisor_file(self) -> Path:
        """Which process the supervisor is."""
        return self.state_dir / "supervisor.json"

    @property
    def services_file(self) -> Path:
        """What the supervisor reports of its services."""
        return self.state_dir / "services.json"

    @property
    def services_cgroup(self) -> str:
        """Holds the supervisor and all services."""
        return f"{self.instance.fabric}/services"

    @property
    def clouds_file(self) -> Path:
        """clouds.yaml: beside a state directory called ``state``, as in ``.tavia``; inside any other."""
        return (self.state_dir.parent if self.state_dir.name == "state" else self.state_dir) / "clouds.yaml"

    @property
    def cloud(self) -> LocalClient:
        """Its networks, ports and servers."""
        return LocalClient(self.instance.socket)

    @property
    def api_port(self) -> int:
        """Where its API listens. Raises SeamError not-up before it was configured."""
        self.check_configured()
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.config_file)
        return parser.getint("api_settings", "bind_port")

    def check_configured(self) -> None:
        """Raises SeamError not-up before octavia.conf was written."""
        if not self.config_file.exists():
            raise SeamError(Seam.CONTROL, "not-up", f"nothing runs in {self.state_dir}: start it with tavia up")

    @property
    def api_url(self) -> str:
        """The API's endpoint."""
        return f"http://{API_HOST}:{self.api_port}"

    def cloud_answers(self) -> bool:
        """Whether the local cloud's daemon does."""
        try:
            self.cloud.networks()
        except SeamError:
            return False
        return True

    def _configured(self) -> bool:
        """Whether the controllers can start: the fabric is there, and octavia.conf."""
        return self.config_file.exists() and self.cloud_answers()

    def services(self, api_socket: int | None = None) -> list[Service]:
        """All services in the order of their start; ``api_socket`` is where the API listens, for who starts it."""
        listening = {API: api_socket}
        return [
            Service(CLOUD, self._command(CLOUD)),
            *(Service(name, self._command(name), self._configured, listening.get(name)) for name in CONTROLLERS),
        ]

    def _command(self, service: str) -> tuple[str, ...]:
        program = str(Path(sys.executable).parent / service)
        if service == CLOUD:
            return (program, "--state-dir", str(self.state_dir))
        enter = ("nsenter", f"--net={NETNS_DIR / self.instance.fabric}") if service in FABRIC_SERVICES else ()
        return (*enter, program, "--config-file", str(self.config_file))

    def write_configuration(self, port: int) -> None:
        """octavia.conf, readable by root alone. The local cloud must answer: the configuration names its network."""
        management = next(network.id for network in self.cloud.networks() if network.name == MGMT_NET)
        text = render(self._settings(port, secrets.token_urlsafe(32), management))
        unfinished = self.config_file.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(text)
        unfinished.replace(self.config_file)  # the services start as soon as it is there

    def _settings(self, port: int, heartbeat_key: str, management_network: str) -> Settings:
        """Octavia's defaults but where a single machine allows quicker reactions, or needs something else."""
        from tavia import pki  # noqa: PLC0415  slow to import, not needed by most commands

        return {
            "DEFAULT": {"graceful_shutdown_timeout": str(GRACEFUL_SHUTDOWN_TIMEOUT)},
            "api_settings": {
                "bind_host": API_HOST,
                "bind_port": str(port),
                "auth_strategy": "noauth",
                "healthcheck_enabled": "true",
            },
            "certificates": {
                "ca_certificate": str(self.certificates / pki.SERVER_CA),
                "ca_private_key": str(self.certificates / pki.SERVER_CA_KEY),
            },
            "controller_worker": {
                "compute_driver": "compute_local_driver",
                "network_driver": "network_local_driver",
                "image_driver": "image_local_driver",
                "amp_boot_network_list": management_network,
                "client_ca": str(self.certificates / pki.CLIENT_CA),
                "loadbalancer_topology": "ACTIVE_STANDBY",
            },
            "database": {"connection": self.database},
            "haproxy_amphora": {
                "connection_logging": "false",  # it takes a fifth of the throughput, and nobody reads it here
                "client_cert": str(self.certificates / pki.CLIENT),
                "server_ca": str(self.certificates / pki.SERVER_CA),
            },
            "health_manager": {
                "bind_ip": CONTROLLER_ADDRESS,
                "bind_port": str(HEARTBEAT_PORT),
                "controller_ip_port_list": f"{CONTROLLER_ADDRESS}:{HEARTBEAT_PORT}",
                "heartbeat_key": heartbeat_key,
                "heartbeat_interval": "1",
                "heartbeat_timeout": "5",
                "health_check_interval": "0.5",
            },
            "keepalived_vrrp": {"vrrp_advert_int": "0.1"},
            "tavia": {"state_dir": str(self.state_dir), "poll_interval": "0.2"},
        }

    def write_clouds_yaml(self) -> None:
        """The cloud ``tavia`` for openstackclient and openstacksdk.

        They ask Neutron for the subnet that ``--vip-subnet-id`` names; the API answers in its place, read-only.
        """
        self.clouds_file.write_text(
            "clouds:\n"
            "  tavia:\n"
            "    auth_type: none\n"
            "    auth:\n"
            f"      endpoint: {self.api_url}\n"
            f"    network_endpoint_override: {self.api_url}/network\n"
        )


def render(settings: Settings) -> str:
    """The settings in oslo.config's form, where ``$`` begins a reference to another option."""
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value.replace('$', '$$')}" for name, value in options.items())])
        for group, options in settings.items()
    )
    return "\n\n".join(["# Written by tavia up. tavia down removes it.", *groups, ""])


def listen(port: int | None) -> socket.socket:
    """A socket for the API on this port, or on the first from API_PORT on where nobody listens.

    Raises SeamError port-taken, no-free-port.
    """
    ports = [port] if port else range(API_PORT, API_PORT + 100)
    for each in ports:
        with suppress(OSError):
            return socket.create_server((API_HOST, each), backlog=BACKLOG)
    if port:
        message = f"another program listens on port {port}: end it, or after tavia down choose another --api-port"
        raise SeamError(Seam.CONTROL, "port-taken", message)
    raise SeamError(Seam.CONTROL, "no-free-port", f"no port from {ports[0]} to {ports[-1]} is free on {API_HOST}")
