"""A load balancer as a tenant makes it with ``openstack loadbalancer``, in front of HTTP servers on their server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instance import eventually
from tavia_on_cloud import BOOT_SECONDS, TaviaOnCloud
from tenant import TenantServer, ask

from tavia.cli.api_client import Json

SERVED_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """Make it with :func:`create`. ``vip`` is on the tenant's network."""

    tavia: TaviaOnCloud
    id: str
    name: str
    vip: str
    vip_port_id: str

    @property
    def pool(self) -> str:
        return f"{self.name}-pool"

    def show(self) -> Json:
        return self.tavia.show(self.id)

    def await_active(self, seconds: float = BOOT_SECONDS) -> None:
        self.tavia.await_status(self.id, "ACTIVE", seconds)

    def add_member(self, address: str, port: int, subnet_id: str | None = None) -> None:
        """Returns when it is ACTIVE. Without a subnet it is on the VIP's."""
        options = ("--address", address, "--protocol-port", str(port), "--wait")
        subnet = ("--subnet-id", subnet_id or self.tavia.cloud.tenant_subnet.id)
        self.tavia.tenant.loadbalancer("member", "create", "--name", str(port), *options, *subnet, self.pool)

    def remove_member(self, port: int) -> None:
        """Returns when it is gone."""
        self.tavia.tenant.openstack("loadbalancer", "member", "delete", "--wait", self.pool, str(port))

    def member_status(self, port: int) -> str:
        """Its operating status, as the tenant sees it."""
        shown = self.tavia.tenant.loadbalancer("member", "show", self.pool, str(port))
        return str(shown["operating_status"])

    def amphorae(self) -> list[Json]:
        """Those that carry the traffic."""
        return [amphora for amphora in self.tavia.amphorae(self.id) if amphora["status"] == "ALLOCATED"]

    def await_whole(self, lost: Sequence[Json] = (), seconds: float = BOOT_SECONDS) -> list[Json]:
        """Return when all amphorae are there, none of ``lost`` among them, and nothing is left to do."""
        gone = {amphora["id"] for amphora in lost}
        wanted = len(self.amphora_roles)

        def whole() -> list[Json] | None:
            rows = self.tavia.amphorae(self.id)
            is_whole = len(rows) == wanted and all(
                row["status"] == "ALLOCATED" and row["id"] not in gone and row["replace_generation"] is None
                for row in rows
            )
            return rows if is_whole and self.show()["provisioning_status"] == "ACTIVE" else None

        try:
            return eventually(whole, f"load balancer {self.name} is whole", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.show()}\n{self.tavia.told(self.id)}") from None

    @property
    def amphora_roles(self) -> Sequence[str]:
        """What its topology asks for."""
        topology = self.tavia.rows("SELECT topology FROM load_balancer WHERE id = :id", id=self.id)[0]["topology"]
        return {"SINGLE": ("STANDALONE",), "ACTIVE_STANDBY": ("MASTER", "BACKUP")}[topology]


def create(tavia: TaviaOnCloud, server: TenantServer, name: str, *ports: int) -> Served:
    """Load balancer, listener, pool with a quick monitor and a member a port, one command each; all is ACTIVE then."""
    run = tavia.tenant.loadbalancer
    made = run("create", "--name", name, "--vip-subnet-id", tavia.cloud.tenant_subnet.id, "--wait")
    assert made["provisioning_status"] == "ACTIVE", tavia.told(made["id"])
    served = Served(tavia, made["id"], name, made["vip_address"], made["vip_port_id"])
    run("listener", "create", "--name", f"{name}-web", "--protocol", "HTTP", "--protocol-port", "80", "--wait", name)
    pool = ("--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN", "--listener", f"{name}-web", "--wait")
    run("pool", "create", "--name", served.pool, *pool)
    monitor = ("--delay", "2", "--timeout", "2", "--max-retries", "1", "--max-retries-down", "2", "--type", "HTTP")
    run("healthmonitor", "create", *monitor, "--wait", served.pool)
    for port in ports:
        served.add_member(server.address, port)
    return served


def await_served(address: str, *bodies: str, seconds: float = SERVED_SECONDS) -> None:
    """Return when exactly these servers answer at an address, as far as a dozen requests can tell."""

    def answered() -> bool:
        return {ask(address) for _ in range(6 * len(bodies))} == set(bodies)

    eventually(answered, f"{address} is answered by {bodies}", seconds)
