"""A load balancer with VIPs on several subnets of one network serves at each, and a failover moves all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from instance import Instance, eventually
from local_cloud import within
from requester import VIP_PORT, asked

from tavia.cli.api_client import Json

SUBNETS = {"six": "fd00:77::/64", "four": "10.78.0.0/24"}
CLIENTS = {"six": "fd00:77::99", "four": "10.78.0.99"}


@dataclass
class Several:
    """A load balancer, the name of a namespace with an address on every subnet, and the VIPs by subnet."""

    instance: Instance
    id: str
    client: str
    vips: dict[str, str]

    def show(self) -> Json:
        shown: Json = self.instance.api.call("GET", f"/lbaas/loadbalancers/{self.id}")["loadbalancer"]
        return shown

    def answers(self) -> set[str]:
        """The subnets at whose VIP somebody answers."""
        return {name for name, vip in self.vips.items() if within(self.client, partial(asked, vip))}

    def amphorae(self) -> set[str]:
        found = self.instance.api.call("GET", f"/octavia/amphorae?loadbalancer_id={self.id}&status=ALLOCATED")
        return {amphora["id"] for amphora in found["amphorae"]}


@pytest.fixture
def several(instance: Instance) -> Iterator[Several]:
    cloud = instance.cloud
    network = cloud.create_network(name="several-net", cidr="10.79.0.0/24")
    subnets = {name: cloud.create_subnet(network.id, cidr=cidr, name=name) for name, cidr in SUBNETS.items()}
    client = cloud.attach_host("several", network.id, "10.79.0.99")
    (port,) = [port for port in cloud.ports() if port.device_id == client]
    cloud.set_allowed_addresses(port.id, frozenset(CLIENTS.values()))
    for name, address in CLIENTS.items():
        prefix = SUBNETS[name].partition("/")[2]
        command = ["ip", "-n", client, "addr", "add", f"{address}/{prefix}", "dev", "eth0"]
        subprocess.run([*command, *(["nodad"] if ":" in address else [])], check=True)
    member = instance.member_body("red")
    pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member]}
    body = {
        "name": "several",
        "project_id": "tenant",
        "vip_subnet_id": network.subnet_ids[0],
        "additional_vips": [{"subnet_id": subnet.id} for subnet in subnets.values()],
        "listeners": [{"name": "web", "protocol": "HTTP", "protocol_port": VIP_PORT, "default_pool": pool}],
    }
    made = instance.api.call("POST", "/lbaas/loadbalancers", {"loadbalancer": body})["loadbalancer"]
    vip_of = {vip["subnet_id"]: vip["ip_address"] for vip in made["additional_vips"]}
    vips = {"own": made["vip_address"]} | {name: vip_of[subnet.id] for name, subnet in subnets.items()}
    yield Several(instance, made["id"], client, vips)
    instance.api.call("DELETE", f"/lbaas/loadbalancers/{made['id']}?cascade=true")
    cloud.detach_host("several")
    eventually(lambda: all(port.network_id != network.id for port in cloud.ports()), "its ports are gone")
    cloud.delete_network(network.id)


def test_every_vip_answers_http_before_and_after_a_failover(several: Several) -> None:
    eventually(lambda: several.answers() == {"own", "six", "four"}, "every VIP answers")
    eventually(lambda: several.show()["provisioning_status"] == "ACTIVE", "ACTIVE")
    before = several.amphorae()
    several.instance.api.call("PUT", f"/lbaas/loadbalancers/{several.id}/failover")
    eventually(
        lambda: several.show()["provisioning_status"] == "ACTIVE" and not before & several.amphorae(), "replaced"
    )
    eventually(lambda: several.answers() == {"own", "six", "four"}, "every VIP answers again")
