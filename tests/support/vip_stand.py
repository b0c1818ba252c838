"""Load balancers without guests on a real Neutron, on networks that the tenant made for them alone.

Servers and agents are noop ones, so that one is ACTIVE in a second or two; all that it has in Neutron is real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network
from typing import Any

import pytest
from controllers import NOOP
from instance import eventually
from tavia_on_cloud import TaviaOnCloud, TokenClient, is_gone

from tavia.cli.api_client import ApiClient, Json
from tavia.cli.embedded import Settings
from tavia.model.seams import SeamError

SETTINGS: Settings = {
    "controller_worker": {
        **NOOP["controller_worker"],
        "network_driver": "allowed_address_pairs_driver",
        "loadbalancer_topology": "ACTIVE_STANDBY",
    },
    "tavia": {"retry_pending_seconds": "2", "retry_interval_max": "3"},
}
FIRST_CIDR, SECOND_CIDR, SIXTH_CIDR = "198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/64"
MEMBERS_CIDR = "192.0.2.0/24"
SECONDS = 60.0
LISTENER: Json = {"protocol": "HTTP", "protocol_port": 80}
POOL: Json = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}

Rule = tuple[str, str, int | None, str]
"""Family, protocol, port, and from where: a CIDR, ``anywhere`` or ``peers``."""
PEERS: set[Rule] = {
    (family, protocol, port, "peers")
    for family in ("IPv4", "IPv6")
    for protocol, port in (("vrrp", None), ("tcp", 1025))
}
"""What the two of a pair tell each other."""


@dataclass(frozen=True)
class VipStand:
    """Make it with :func:`vip_stand`.

    The subnets ``first``, ``second`` and ``sixth`` (IPv6) are of the network with the id ``network``, ``members`` is of
    another one.
    """

    tavia: TaviaOnCloud
    network: str
    first: str
    second: str
    sixth: str
    members: str

    @property
    def neutron(self) -> Any:
        """As the administrator sees it."""
        return self.tavia.cloud.admin.network

    @property
    def tenants(self) -> Any:
        """Neutron as the tenant sees it."""
        return self.tavia.cloud.connect("demo").network

    @cached_property
    def api(self) -> ApiClient:
        """The tenant's client."""
        api, *_ = self.tavia.controllers.named("tavia-api")
        return TokenClient(self.tavia.controllers.url(api), self.tavia.cloud.connect("demo").auth_token)

    # -- load balancers -------------------------------------------------------------------------------------------

    def create(self, **attributes: Any) -> Json:
        """The tenant's load balancer, when it is ACTIVE."""
        made = self.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": attributes})["loadbalancer"]
        return self.settled(made["id"])

    def settled(self, loadbalancer_id: str) -> Json:
        """When it is ACTIVE, without a fault."""
        found = self.tavia.await_status(loadbalancer_id, "ACTIVE", SECONDS)
        assert found["fault"] is None
        return found

    def put(self, kind: str, object_id: str, **attributes: Any) -> None:
        """Change a loadbalancer, listener or pool."""
        self.api.call("PUT", f"/lbaas/{kind}s/{object_id}", {kind: attributes})

    def listen(self, loadbalancer_id: str, port: int, **attributes: Any) -> str:
        """One more listener; its id."""
        body = {**LISTENER, "loadbalancer_id": loadbalancer_id, "protocol_port": port, **attributes}
        return str(self.api.call("POST", "/lbaas/listeners", {"listener": body})["listener"]["id"])

    def fail_over(self, loadbalancer_id: str) -> None:
        """Ask for other amphorae, which tenants may not."""
        self.tavia.api.call("PUT", f"/lbaas/loadbalancers/{loadbalancer_id}/failover")

    def refused(self, **attributes: Any) -> tuple[int, str]:
        """Status and fault string of a load balancer that the tenant may not have; nothing is made for it."""
        before = self.ports()
        told = refusal(self.api, attributes)
        assert self.ports() == before
        assert self.tavia.left() == []
        return told

    # -- Neutron --------------------------------------------------------------------------------------------------

    def ports(self) -> set[str]:
        """The ids of those on the network of the VIPs, whosever they are."""
        return {port.id for port in self.neutron.ports(network_id=self.network)}

    def vip_port(self, loadbalancer: Mapping[str, Any]) -> Any:
        return self.neutron.get_port(loadbalancer["vip_port_id"])

    def amphora_ports(self, loadbalancer_id: str) -> list[Any]:
        """Of both amphorae the ports on the network of the VIPs."""
        rows = self.tavia.amphorae(loadbalancer_id)
        assert len(rows) == 2, rows
        return [self.neutron.get_port(row["vrrp_port_id"]) for row in rows]

    def groups(self, loadbalancer_id: str) -> list[str]:
        """The ids of the security groups that are named as its own."""
        return [group.id for group in self.neutron.security_groups(name=f"lb-{loadbalancer_id}")]

    def lets_in(self, loadbalancer_id: str) -> set[Rule]:
        """What its security group does."""
        (group,) = self.groups(loadbalancer_id)
        rules = self.neutron.security_group_rules(security_group_id=group, direction="ingress")
        return {_rule(rule, group) for rule in rules}

    @contextmanager
    def port(self, *subnets: str, **attributes: Any) -> Iterator[Any]:
        """One that the tenant made, with an address on each of the subnets."""
        wanted = {"name": "tavia-test-own", "fixed_ips": [{"subnet_id": subnet} for subnet in subnets or [self.first]]}
        made = self.tenants.create_port(network_id=self.network, **{**wanted, **attributes})
        try:
            yield made
        finally:
            self.tavia.clear()  # no load balancer may have it when it goes
            self.neutron.delete_port(made.id, ignore_missing=True)

    def is_without(self, port_id: str) -> bool:
        """Whether there is no such port."""
        return is_gone(lambda: self.neutron.get_port(port_id))


def refusal(client: ApiClient, attributes: Mapping[str, Any]) -> tuple[int, str]:
    """Status and fault string of a load balancer that is not accepted."""
    with pytest.raises(SeamError) as refused:
        client.call("POST", "/lbaas/loadbalancers", {"loadbalancer": attributes})
    status, _, answer = refused.value.message.partition(": ")[2].partition(" ")
    return int(status), json.loads(answer)["faultstring"]


def addresses(port: Any) -> dict[str, str]:
    """By subnet."""
    return {fixed["subnet_id"]: fixed["ip_address"] for fixed in port.fixed_ips}


def pairs(port: Any) -> set[str]:
    """The addresses that a port may send from beside its own."""
    return {pair["ip_address"] for pair in port.allowed_address_pairs}


def _rule(rule: Any, group: str) -> Rule:
    assert rule.port_range_min == rule.port_range_max, rule
    source = "peers" if rule.remote_group_id == group else rule.remote_ip_prefix or "anywhere"
    return rule.ether_type, rule.protocol, rule.port_range_min, source


@contextmanager
def vip_stand(tavia: TaviaOnCloud, name: str) -> Iterator[VipStand]:
    """The tenant's networks are gone afterwards, with all that is on them."""
    tenants, admins = tavia.cloud.connect("demo").network, tavia.cloud.admin.network

    def network(cleanup: ExitStack, *cidrs: str) -> tuple[str, Sequence[str]]:
        made = tenants.create_network(name=name)
        cleanup.callback(_remove, admins, made.id)
        options = {"name": name, "network_id": made.id, "enable_dhcp": False}
        subnets = [
            tenants.create_subnet(cidr=cidr, ip_version=ip_network(cidr).version, **options).id for cidr in cidrs
        ]
        return made.id, subnets

    with ExitStack() as cleanup:
        vips, (first, second, sixth) = network(cleanup, FIRST_CIDR, SECOND_CIDR, SIXTH_CIDR)
        _, (members,) = network(cleanup, MEMBERS_CIDR)
        cleanup.callback(tavia.clear)
        yield VipStand(tavia, vips, first, second, sixth, members)


def _remove(neutron: Any, network_id: str) -> None:
    for port in neutron.ports(network_id=network_id):
        neutron.delete_port(port, ignore_missing=True)
    neutron.delete_network(network_id)


@contextmanager
def project(tavia: TaviaOnCloud, name: str, **quotas: int) -> Iterator[str]:
    """The id of one with quotas of its own in Neutron; it is gone afterwards."""
    identity, neutron = tavia.cloud.admin.identity, tavia.cloud.admin.network
    made = identity.create_project(name=name, domain_id="default")
    try:
        neutron.update_quota(made.id, **quotas)
        yield str(made.id)
    finally:
        tavia.clear()
        neutron.delete_quota(made.id, ignore_missing=True)
        for group in neutron.security_groups(project_id=made.id):  # Neutron gives each a default one
            neutron.delete_security_group(group)
        identity.delete_project(made)


def await_gone(stand: VipStand, port_ids: Sequence[str]) -> None:
    """Return when Neutron has none of these ports."""
    eventually(lambda: all(stand.is_without(port_id) for port_id in port_ids), f"ports {port_ids} are gone", SECONDS)
