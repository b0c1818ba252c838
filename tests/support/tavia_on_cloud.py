"""Tavia's four services on this machine, with their amphorae on a real OpenStack: see :mod:`openstack_cloud`.

The configuration is ``deploy/octavia.conf`` with this cloud's own values, as an operator would fill it in.
"""

from __future__ import annotations

import configparser
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from controllers import ADDRESS, Controllers, Service, controllers, merged
from instance import eventually
from openstack.exceptions import NotFoundException, SDKException
from openstack_cloud import AMPHORA_FLAVOR, CHECKOUT, OpenStackCloud
from region import Region, region
from sqlalchemy import text
from tenant import Tenant

from tavia import pki
from tavia.cli.api_client import ApiClient, Json
from tavia.cli.embedded import Settings
from tavia.store.database import Database

HEARTBEAT_PORT = "5555"
"""The one that the cloud's security groups let through, so one Tavia at a time."""
GONE_SECONDS = 180.0
NOVA_SECONDS = 180.0
"""For Nova to remove what it was told to: it says yes at once, and finishes a boot under way first."""
BOOT_SECONDS = 420.0
"""For an amphora that an emulated processor boots beside another one."""


class TokenClient(ApiClient):
    """With somebody's token."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self._pool.headers = {"X-Auth-Token": token}


class TaviaOnCloud:
    """Make it with :func:`tavia_on_cloud`. ``api`` is the administrator's client, ``tenant`` has the command line."""

    def __init__(self, cloud: OpenStackCloud, of_region: Region, running: Controllers, tenant: Tenant) -> None:
        self.cloud = cloud
        self.region = of_region
        self.controllers = running
        self.tenant = tenant
        self.api = running.api
        self.database = Database.connect(running.connection)

    @property
    def worker(self) -> Service:
        """The usual one."""
        return self.controllers.named("tavia-worker")[0]

    @contextmanager
    def another_worker(self, **groups: dict[str, str]) -> Iterator[Service]:
        """One whose options differ, for the time of the block; the usual ones stand still meanwhile."""
        usual = [service for service in self.controllers.named("tavia-worker") if service.running]
        for service in usual:
            service.stop()
        service = self.controllers.add_worker(groups)
        try:
            yield service
        finally:
            service.stop()
            for stopped in usual:
                stopped.start()
                eventually(stopped.takes_signals, f"{stopped.name} is up")

    @contextmanager
    def topology(self, wanted: str) -> Iterator[None]:
        """Load balancers that are made while the block runs have this one."""
        workers = [worker for worker in self.controllers.named("tavia-worker") if worker.running]
        services = [*self.controllers.named("tavia-api"), *workers]
        before = self.worker.option("controller_worker", "loadbalancer_topology")
        self._reload(services, wanted)
        try:
            yield
        finally:
            self._reload(services, before)

    def _reload(self, services: Sequence[Service], wanted: str) -> None:
        for service in services:
            before = _reloads(service)
            service.configure({"controller_worker": {"loadbalancer_topology": wanted}})
            service.hang_up()
            after = before + service.processes
            eventually(partial(lambda of, count: _reloads(of) >= count, service, after), f"{service.name} reloaded")

    # -- load balancers -------------------------------------------------------------------------------------------

    def create(self, name: str, **attributes: Any) -> Json:
        """POST a load balancer for the tenant, at once."""
        body = {"name": name, "vip_subnet_id": self.cloud.tenant_subnet.id, "project_id": self.tenant.project_id}
        made = self.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": {**body, **attributes}})
        return dict(made["loadbalancer"])

    def show(self, loadbalancer_id: str) -> Json:
        """As the API shows it, ``fault`` too."""
        return self.controllers.show(loadbalancer_id)

    def await_status(self, loadbalancer_id: str, status: str, seconds: float = BOOT_SECONDS) -> Json:
        """Return when its provisioning status is this one; at once for a wrong one that it would not leave."""

        def reached() -> Json | None:
            shown = self.show(loadbalancer_id)
            return shown if shown["provisioning_status"] == status else None

        try:
            return eventually(reached, f"load balancer {loadbalancer_id} is {status}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.show(loadbalancer_id)}\n{self.told(loadbalancer_id)}") from None

    def amphorae(self, loadbalancer_id: str) -> list[Json]:
        """Those that are not gone, oldest first."""
        sql = "SELECT * FROM amphora WHERE loadbalancer_id = :id AND status <> 'DELETED' ORDER BY created_at"
        return self.rows(sql, id=loadbalancer_id)

    def vrrp_masters(self, loadbalancer_id: str) -> dict[str, Json]:
        """By their ids the amphorae that said last that they hold the VIP: a dead one's last word stays."""
        sql = (
            "SELECT amphora.* FROM amphora JOIN amphora_health ON amphora_id = amphora.id "
            "WHERE loadbalancer_id = :id AND status = 'ALLOCATED' AND vrrp_state = 'MASTER'"
        )
        return {row["id"]: row for row in self.rows(sql, id=loadbalancer_id)}

    def vrrp_master(self, loadbalancer_id: str) -> Json | None:
        """The only one of them."""
        found = list(self.vrrp_masters(loadbalancer_id).values())
        return found[0] if len(found) == 1 else None

    def delete(self, loadbalancer_id: str, seconds: float = GONE_SECONDS) -> None:
        """Return when it is gone, with all below it."""
        self.api.call("DELETE", f"/lbaas/loadbalancers/{loadbalancer_id}?cascade=true")
        self.controllers.await_gone(loadbalancer_id, seconds)

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.read() as conn:
            return [dict(row) for row in conn.execute(text(sql), values).mappings()]

    def operations(self, loadbalancer_id: str) -> list[dict[str, Any]]:
        """The journal, oldest first."""
        return self.rows("SELECT * FROM operation WHERE loadbalancer_id = :id ORDER BY started", id=loadbalancer_id)

    def steps(self, loadbalancer_id: str) -> list[dict[str, Any]]:
        """All steps of its operations, in the order in which they began."""
        sql = (
            "SELECT step.what, seam, subject, step.started, step.code, step.reason, operation.what AS operation, "
            "COALESCE(step.ended, operation.ended) AS ended, "
            "CASE step.state WHEN 'running' THEN operation.state ELSE step.state END AS state "
            "FROM step JOIN operation ON operation.id = step.operation_id "
            "WHERE loadbalancer_id = :id ORDER BY step.started"
        )
        return self.rows(sql, id=loadbalancer_id)

    def told(self, loadbalancer_id: str) -> str:
        """The journal as text, for a test that fails."""
        lines = [
            f"{row['operation']} {row['what']} {row['subject']}: {row['state']} {row['code']} {row['reason']}"
            for row in self.steps(loadbalancer_id)
        ]
        return "\n".join(lines[-30:])

    # -- what is left ---------------------------------------------------------------------------------------------

    def ours(self) -> dict[str, list[Any]]:
        """Servers, ports, security groups and server groups of the cloud that name anything of this Tavia's."""
        ids = {row["id"] for table in ("load_balancer", "amphora") for row in self.rows(f"SELECT id FROM {table}")}
        ids.add(self.database.deployment_id())
        compute, network = self.cloud.admin.compute, self.cloud.admin.network
        everything = {
            "server": compute.servers(all_projects=True),
            "port": network.ports(),
            "security group": network.security_groups(),
            "server group": compute.server_groups(all_projects=True),
        }
        return {
            kind: [thing for thing in things if any(known in str(thing.to_dict()) for known in ids)]
            for kind, things in everything.items()
        }

    def left(self) -> list[str]:
        """The names of those."""
        return [f"{kind} {thing.name or thing.id}" for kind, things in self.ours().items() for thing in things]

    def clear(self) -> None:
        """Delete every load balancer; what then is left is a failure, and is removed by hand. Raises AssertionError."""
        for row in self.rows("SELECT id FROM load_balancer WHERE provisioning_status <> 'DELETED'"):
            with suppress(Exception):  # what it could not delete is found below
                self.delete(row["id"])
        left: list[str] = []
        deadline = time.monotonic() + NOVA_SECONDS
        while (left := self.left()) and time.monotonic() < deadline:  # Nova answers before a server is gone
            time.sleep(1)
        if left:
            self._sweep()
        assert not left, f"left on the cloud: {left}"

    def _sweep(self) -> None:
        compute, network = self.cloud.admin.compute, self.cloud.admin.network
        deletes: dict[str, Callable[[Any], Any]] = {
            "server": partial(compute.delete_server, force=True),
            "port": network.delete_port,
            "security group": network.delete_security_group,
            "server group": compute.delete_server_group,
        }
        for kind, delete in deletes.items():
            for thing in self.ours()[kind]:
                with suppress(SDKException):
                    delete(thing)
            eventually(lambda kind=kind: kind != "server" or not self.ours()["server"], "servers are gone", 120)  # type: ignore[misc]


def _reloads(service: Service) -> int:
    return service.log.read_text().count("Configuration reloaded")


def deployed_settings() -> Settings:
    """What the sample octavia.conf says."""
    parser = configparser.ConfigParser(interpolation=None, default_section="nothing-is-inherited")
    parser.read(CHECKOUT / "deploy" / "octavia.conf")
    return {section: dict(parser[section]) for section in parser.sections()}


def settings_of(
    cloud: OpenStackCloud, region_name: str, certificates: Path, image_tag: str, connection: str
) -> Settings:
    """The sample octavia.conf with this cloud's values."""
    login = {"auth_type": "password", **cloud.settings("octavia")["auth"]}
    ours: Settings = {
        "database": {"connection": connection},
        "api_settings": {"auth_strategy": "keystone", "bind_host": ADDRESS},
        "keystone_authtoken": {**login, "www_authenticate_uri": login["auth_url"]},
        "service_auth": login,
        "nova": {"region_name": region_name},
        "neutron": {"region_name": region_name},
        "glance": {"region_name": region_name},
        "certificates": {
            "ca_certificate": str(certificates / pki.SERVER_CA),
            "ca_private_key": str(certificates / pki.SERVER_CA_KEY),
        },
        "haproxy_amphora": {
            "client_cert": str(certificates / pki.CLIENT),
            "server_ca": str(certificates / pki.SERVER_CA),
        },
        "controller_worker": {
            "amphora_driver": "amphora_haproxy_rest_driver",  # the defaults: Controllers has noop ones
            "compute_driver": "compute_nova_driver",
            "network_driver": "allowed_address_pairs_driver",
            "image_driver": "image_glance_driver",
            "client_ca": str(certificates / pki.CLIENT_CA),
            "amp_image_tag": image_tag,
            "amp_flavor_id": cloud.flavor(AMPHORA_FLAVOR),
            "amp_boot_network_list": cloud.management_network,
            "amp_secgroup_list": cloud.management_group,
            "loadbalancer_topology": "SINGLE",
        },
        "health_manager": {
            "bind_ip": cloud.leg_address,
            "bind_port": HEARTBEAT_PORT,
            "controller_ip_port_list": f"{cloud.leg_address}:{HEARTBEAT_PORT}",
            "heartbeat_key": secrets.token_urlsafe(32),
            "heartbeat_interval": "2",
            "heartbeat_timeout": "15",
            "failover_grace": "5",
        },
    }
    filled_in = merged(deployed_settings(), ours)
    blank = [(group, name) for group, options in filled_in.items() for name in options if "%" in options[name]]
    assert not blank, f"left to fill in: {blank}"
    return filled_in


@contextmanager
def tavia_on_cloud(
    cloud: OpenStackCloud,
    directory: Path,
    connection: str,
    image_tag: str,
    *,
    transport_url: str | None = None,
    settings: Settings | None = None,
    has_heartbeats: bool = True,
) -> Iterator[TaviaOnCloud]:
    """All services, on the database at this URL, with an endpoint in the catalog; nothing of it is left afterwards.

    There is no health manager where amphorae have no ``has_heartbeats``: their agents are noop ones.
    """
    certificates = directory / "certs"
    pki.init(certificates)
    name = f"tavia-test-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        like = cloud.settings().get("region_name", "RegionOne")
        made = stack.enter_context(region(name, cloud.admin, like))
        tenant = Tenant(cloud, name, directory)
        configured = merged(settings_of(cloud, name, certificates, image_tag, connection), settings or {})
        running = stack.enter_context(
            controllers(
                directory,
                connection,
                health_managers=0,
                housekeepers=1,
                transport_url=transport_url,
                settings=configured,
                client=lambda url: TokenClient(url, cloud.admin.auth_token),
            )
        )
        if has_heartbeats:
            running.add_health_manager({"health_manager": {"bind_port": HEARTBEAT_PORT}})
        made.register(running.url(running.named("tavia-api")[0]))
        tavia = TaviaOnCloud(cloud, made, running, tenant)
        stack.callback(tavia.database.engine.dispose)
        stack.callback(tavia.clear)
        yield tavia


def is_gone(find: Callable[[], Any]) -> bool:
    """Whether the cloud says that there is no such thing."""
    try:
        return find() is None
    except NotFoundException:
        return True
