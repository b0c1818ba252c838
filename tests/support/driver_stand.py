"""A project of its own on a real OpenStack, for the driver's tests: nobody else feels its quotas."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openstack_cloud import MGMT_NETWORK, TENANT_NETWORK, TINY_FLAVOR, TINY_IMAGE, OpenStackCloud

from tavia import config
from tavia.cloud import connect
from tavia.cloud.protocols import Cloud, Server, ServerSpec, ServerStatus

BOOT_SECONDS = 180.0


@dataclass(frozen=True)
class Stand:
    """A real OpenStack, and on it a project that the service user is an administrator of."""

    openstack: OpenStackCloud
    project_id: str
    tags: frozenset[str]

    @property
    def admin(self) -> Any:
        """openstacksdk's Connection of the administrator."""
        return self.openstack.admin

    @cached_property
    def service(self) -> Mapping[str, str]:
        """How the service user logs in, as in clouds.yaml."""
        login: dict[str, str] = self.openstack.settings("octavia")["auth"]
        return login

    @cached_property
    def image(self) -> str:
        return str(self.admin.image.find_image(TINY_IMAGE, ignore_missing=False).id)

    @cached_property
    def flavor(self) -> str:
        return self.openstack.flavor(TINY_FLAVOR)

    def cloud(self, path: Path, text: str = "", **login: str) -> Cloud:
        """The driver, configured by an octavia.conf with ``text`` added and these options of [service_auth] changed."""
        auth = {
            **{k: v for k, v in self.service.items() if k != "project_name"},
            "auth_type": "password",
            "project_id": self.project_id,
            **login,
        }
        lines = ["[service_auth]", *(f"{name} = {value}" for name, value in auth.items() if value)]
        drivers = "[health_manager]\nheartbeat_key = k\n[controller_worker]\namp_image_tag = tavia-driver\n"
        file = path / f"{secrets.token_hex(4)}.conf"
        file.write_text("\n".join([drivers, *lines, text, ""]))
        return connect(config.load(["--config-file", str(file)], "tavia-worker", []))

    @cached_property
    def management(self) -> tuple[str, str]:
        """Network and subnet."""
        return self._network(MGMT_NETWORK)

    @cached_property
    def tenants(self) -> tuple[str, str]:
        return self._network(TENANT_NETWORK)

    def _network(self, name: str) -> tuple[str, str]:
        network = self.admin.network.find_network(name, ignore_missing=False)
        return network.id, network.subnet_ids[0]

    @contextmanager
    def quota(self, face: str, **limits: int) -> Iterator[None]:
        """``face`` is compute or network; unlimited again afterwards."""
        setter = getattr(self.admin, f"set_{face}_quotas")
        setter(self.project_id, **limits)
        try:
            yield
        finally:
            setter(self.project_id, **dict.fromkeys(limits, -1))

    def clear(self) -> None:
        """Remove what is in the project."""
        compute, network, mine = self.admin.compute, self.admin.network, {"project_id": self.project_id}
        for server in compute.servers(all_projects=True, **mine):
            compute.delete_server(server, ignore_missing=True)
        until(lambda: not list(compute.servers(all_projects=True, **mine)), 60, "servers are gone")
        for group in compute.server_groups(all_projects=True):
            if group.project_id == self.project_id:
                compute.delete_server_group(group)
        for port in network.ports(**mine):
            network.delete_port(port)
        for group in network.security_groups(**mine):
            if group.name != "default":
                network.delete_security_group(group)
        for policy in network.qos_policies(**mine):
            network.delete_qos_policy(policy)
        for image in self.admin.image.images(owner=self.project_id):
            self.admin.image.delete_image(image)


def until(happened: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)


def spec(stand: Stand, port_ids: list[str], **changes: Any) -> ServerSpec:
    """The smallest server that there is."""
    given: dict[str, Any] = {
        "name": "driver",
        "image_id": stand.image,
        "flavor": stand.flavor,
        "port_ids": port_ids,
        "files": {"/etc/octavia/amphora-agent.conf": b"an agent's configuration"},
        "tags": stand.tags,
        **changes,
    }
    return ServerSpec(**given)


def booted(cloud: Cloud, server_id: str) -> Server:
    """The server, when it is BUILDING no more."""

    def done() -> bool:
        found = cloud.compute.server(server_id)
        return found is not None and found.status is not ServerStatus.BUILDING

    until(done, BOOT_SECONDS, "the server is built")
    server = cloud.compute.server(server_id)
    assert server is not None
    return server
