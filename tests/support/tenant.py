"""A tenant of the cloud: the ``openstack`` command as people have it, a server on their network, clients outside."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import requester
import yaml
from instance import eventually
from openstack_cloud import AMPHORA_FLAVOR, PUBLIC_NETWORK, TENANT_NETWORK, TINY_IMAGE, OpenStackCloud
from requester import Seen

OPENSTACK = str(Path(sys.executable).parent / "openstack")
COMMAND_SECONDS = 600.0
SERVER_SECONDS = 240.0
SECOND_CIDR = "10.60.1.0/24"


class Tenant:
    """The cloud's ``demo`` user in a region."""

    def __init__(self, cloud: OpenStackCloud, region_name: str, directory: Path) -> None:
        self.cloud = cloud
        self._directory = directory
        settings = {"clouds": {"tenant": {**cloud.settings("demo"), "region_name": region_name}}}
        file = directory / "clouds.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(settings))

    @cached_property
    def project_id(self) -> str:
        return str(self.cloud.connect("demo").current_project_id)

    def openstack(self, *words: str, ok: bool = True) -> Any:
        """Run ``openstack`` with these words; its answer as JSON where it is. Raises AssertionError."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._directory), "OS_CLOUD": "tenant"}
        done = subprocess.run(
            [OPENSTACK, *words],
            cwd=self._directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == ok, f"openstack {' '.join(words)}: {said}"
        return json.loads(done.stdout) if done.stdout.startswith(("[", "{")) else said

    def loadbalancer(self, *words: str) -> Any:
        """Run ``openstack loadbalancer``."""
        return self.openstack("loadbalancer", *words, *(("-f", "json") if words[-1] != "--no-json" else ()))

    @contextmanager
    def floating_ip(self, port_id: str) -> Iterator[str]:
        """A floating IP on a port; it is released afterwards."""
        made = self.openstack("floating", "ip", "create", PUBLIC_NETWORK, "--port", port_id, "-f", "json")
        try:
            yield made["floating_ip_address"]
        finally:
            self.cloud.admin.network.delete_ip(made["id"], ignore_missing=True)

    @contextmanager
    def server(self, name: str) -> Iterator[TenantServer]:
        """A tiny server on the tenant's network that answers; it is removed afterwards."""
        mine, admin = self.cloud.connect("demo"), self.cloud.admin
        with ExitStack() as cleanup:
            group = mine.network.create_security_group(name=name)
            cleanup.callback(admin.network.delete_security_group, group.id)
            mine.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol="tcp"
            )
            network = mine.network.find_network(TENANT_NETWORK, ignore_missing=False)
            port = mine.network.create_port(name=name, network_id=network.id, security_groups=[group.id])
            cleanup.callback(admin.network.delete_port, port.id)
            made = mine.compute.create_server(
                name=name,
                image_id=mine.image.find_image(TINY_IMAGE, ignore_missing=False).id,
                flavor_id=self.cloud.flavor(AMPHORA_FLAVOR),
                networks=[{"port": port.id}],
            )
            cleanup.callback(self._delete_server, made.id)
            with self.floating_ip(port.id) as outside:
                found = TenantServer(made.id, port.fixed_ips[0]["ip_address"], outside)
                eventually(lambda: ask(outside), f"server {name} answers", SERVER_SECONDS)
                yield found

    @contextmanager
    def second_network(self, name: str, server: TenantServer) -> Iterator[tuple[str, str]]:
        """A network of the tenant's with a leg of the server: its subnet, and the address of the leg."""
        mine, admin = self.cloud.connect("demo"), self.cloud.admin
        with ExitStack() as cleanup:
            network = mine.network.create_network(name=name)
            cleanup.callback(admin.network.delete_network, network.id)
            subnet = mine.network.create_subnet(
                name=name, network_id=network.id, ip_version=4, cidr=SECOND_CIDR, gateway_ip=None
            )
            port = mine.network.create_port(name=name, network_id=network.id, port_security_enabled=False)
            cleanup.callback(admin.network.delete_port, port.id)
            mine.compute.create_server_interface(server.id, port_id=port.id)
            address = port.fixed_ips[0]["ip_address"]
            eventually(lambda: f"{address}/" in server.run("ip -o address"), f"the server has {address}")
            yield subnet.id, address

    def _delete_server(self, server_id: str) -> None:
        compute = self.cloud.admin.compute
        compute.delete_server(server_id, ignore_missing=True)
        found = compute.find_server(server_id, all_projects=True)
        if found:
            compute.wait_for_delete(found, wait=SERVER_SECONDS)


@dataclass
class TenantServer:
    """``address`` is on the tenant's network, ``outside`` reaches it from this machine."""

    id: str
    address: str
    outside: str

    def run(self, script: str) -> str:
        """Run a shell script on it; what it said."""
        connection = http.client.HTTPConnection(self.outside, 80, timeout=30.0)
        try:
            connection.request("POST", "/cgi-bin/sh", script.encode())
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def serve(self, *ports: int) -> None:
        """Have an HTTP server of its own answer on each port with that port's number."""
        for port in ports:
            self.run(
                f"mkdir -p /srv/{port}; echo {port} > /srv/{port}/index.html\n"
                f"setsid httpd -f -p {port} -h /srv/{port} < /dev/null > /dev/null 2>&1 &\n"
                f"echo $! > /run/http-{port}.pid\n"
            )

    def silence(self, port: int) -> None:
        """End the HTTP server on a port."""
        self.run(f"kill $(cat /run/http-{port}.pid)")

    def ask(self, address: str) -> str:
        """What an HTTP server at this address answers it."""
        said = self.run(f"printf 'GET / HTTP/1.0\\r\\nHost: vip\\r\\n\\r\\n' | nc -w 5 {address} 80")
        return said.rpartition("\r\n\r\n")[2].strip()


def ask(address: str) -> str | None:
    """Who answers somebody outside; None for nobody."""
    return requester.asked(address, timeout=5.0)


def asking(address: str, pause: float = 0.05) -> AbstractContextManager[Seen]:
    """A client outside that asks all the time while the block runs."""
    return requester.asking(partial(requester.get, address, timeout=5.0), pause)
