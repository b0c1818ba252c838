"""``tavia demo``: two backends, a pair of amphorae and 100 requests, all made through the API, then a picture."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tavia.cli import picture
from tavia.cli.api_client import ApiClient, Json
from tavia.cli.embedded import Embedded
from tavia.cli.network import find
from tavia.cli.progress import step, wait_until
from tavia.cloud.local import cgroups, processes
from tavia.cloud.local.instance import NETNS_DIR
from tavia.cloud.local.networks import DEMO_NET
from tavia.cloud.protocols import Subnet
from tavia.model.seams import Seam, SeamError

BACKENDS = ("demo-1", "demo-2")
BACKEND_PORT, VIP_PORT = 8080, 80
REQUESTS = 100
SERVING_TIMEOUT = 90.0


def run(embedded: Embedded, console: Console) -> None:
    """Make what is missing, send the requests, draw the picture. Raises SeamError."""
    api, subnet = ApiClient(embedded.api_url), _demo_subnet(embedded)
    with step(console, "two HTTP backends in network namespaces of their own"):
        addresses = _start_backends(embedded, subnet)
    with step(console, "load balancer, listener, pool, monitor and members, through the API"):
        balancer, pool = _create(api, subnet, addresses)
    with step(console, "its amphorae boot, take their configuration and serve"):
        if not wait_until(lambda: _serves(api, balancer["id"], pool["id"]), SERVING_TIMEOUT):
            raise _not_serving(api, balancer["id"])
    with step(console, f"{REQUESTS} requests through the VIP"):
        asked = _ask(embedded, balancer["vip_address"])
    console.print(picture.draw(_scene(embedded, api, balancer["id"], pool["id"], asked)))
    console.print(_next_steps(embedded), soft_wrap=True)


def _demo_subnet(embedded: Embedded) -> Subnet:
    cloud = embedded.cloud
    return cloud.subnet(find(cloud, DEMO_NET).subnet_ids[0])


def _start_backends(embedded: Embedded, subnet: Subnet) -> list[str]:
    """Their addresses, at the end of the range: VIPs and amphorae get theirs from its beginning."""
    last = ipaddress.ip_network(subnet.cidr).broadcast_address
    addresses = [str(last - len(BACKENDS) + number) for number in range(len(BACKENDS))]
    for name, address in zip(BACKENDS, addresses, strict=True):
        namespace = embedded.cloud.attach_host(name, subnet.network_id, address)
        if not processes.in_network(NETNS_DIR / namespace):
            _start_backend(embedded, name, namespace)
    return addresses


def _start_backend(embedded: Embedded, name: str, namespace: str) -> None:
    with (embedded.log_dir / f"{name}.log").open("ab") as log:
        backend = subprocess.Popen(
            _traffic(namespace, "serve", name, str(BACKEND_PORT)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    cgroups.join(f"{embedded.instance.fabric}/demo", backend.pid)


def _traffic(namespace: str, *arguments: str) -> Sequence[str]:
    enter = ("nsenter", f"--net={NETNS_DIR / namespace}")
    return (*enter, sys.executable, "-m", "tavia.cli.traffic", *arguments)


def _create(api: ApiClient, subnet: Subnet, addresses: Sequence[str]) -> tuple[Json, Json]:
    """Load balancer and pool. Nothing waits for anything: changes to a pending load balancer are accepted."""
    balancer = api.find_or_create(
        "loadbalancers", "loadbalancer", {"name": "demo-lb", "vip_subnet_id": subnet.id, "description": "tavia demo"}
    )
    of_balancer = {"loadbalancer_id": balancer["id"]}
    pool = api.find_or_create(
        "pools", "pool", of_balancer | {"name": "demo-pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    )
    of_pool = {"pool_id": pool["id"]}
    for name, address in zip(BACKENDS, addresses, strict=True):
        member = {"name": name, "address": address, "protocol_port": BACKEND_PORT, "subnet_id": subnet.id}
        api.find_or_create("members", "member", member, parent=f"/lbaas/pools/{pool['id']}")
    monitor = {"name": "demo-monitor", "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 2, "url_path": "/"}
    api.find_or_create("healthmonitors", "healthmonitor", of_pool | monitor)
    listener = {"name": "demo-listener", "protocol": "HTTP", "protocol_port": VIP_PORT, "default_pool_id": pool["id"]}
    api.find_or_create("listeners", "listener", of_balancer | listener)
    return balancer, pool


def _serves(api: ApiClient, balancer_id: str, pool_id: str) -> bool:
    """Whether the load balancer is ACTIVE and its members ONLINE. Raises SeamError when it went to ERROR."""
    balancer = api.call("GET", f"/lbaas/loadbalancers/{balancer_id}")["loadbalancer"]
    if balancer["provisioning_status"] == "ERROR":
        raise _not_serving(api, balancer_id)
    members = api.call("GET", f"/lbaas/pools/{pool_id}/members")["members"]
    return balancer["provisioning_status"] == "ACTIVE" and all(m["operating_status"] == "ONLINE" for m in members)


def _not_serving(api: ApiClient, balancer_id: str) -> SeamError:
    """With the load balancer's own fault, which says what broke and where."""
    balancer = api.call("GET", f"/lbaas/loadbalancers/{balancer_id}")["loadbalancer"]
    fault = balancer.get("fault") or {"seam": Seam.CONTROL, "code": "no-fault", "message": "no fault is recorded"}
    told = f"demo-lb is {balancer['provisioning_status']} / {balancer['operating_status']}: {fault['message']}"
    return SeamError(Seam(fault["seam"]), fault["code"], told)


def _ask(embedded: Embedded, vip: str) -> dict[str, Any]:
    command = _traffic(embedded.instance.fabric, "ask", vip, str(VIP_PORT), str(REQUESTS))
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def _scene(embedded: Embedded, api: ApiClient, balancer_id: str, pool_id: str, asked: dict[str, Any]) -> picture.Scene:
    balancer = api.call("GET", f"/lbaas/loadbalancers/{balancer_id}")["loadbalancer"]
    amphorae = api.call("GET", f"/octavia/amphorae?loadbalancer_id={balancer_id}")["amphorae"]
    members = api.call("GET", f"/lbaas/pools/{pool_id}/members?sort=name:asc")["members"]
    return picture.Scene(
        client=embedded.instance.fabric,
        vip=f"{balancer['vip_address']}:{VIP_PORT}",
        loadbalancer=balancer["name"],
        provisioning_status=balancer["provisioning_status"],
        operating_status=balancer["operating_status"],
        amphorae=[
            picture.Amphora(id=a["id"], role=a["role"], address=a["vrrp_ip"], status=a["status"]) for a in amphorae
        ],
        members=[
            picture.Member(
                name=member["name"],
                address=f"{member['address']}:{member['protocol_port']}",
                status=member["operating_status"],
                answered=asked["answers"].get(member["name"], 0),
            )
            for member in members
        ],
        failed=asked["failed"],
        milliseconds=asked["milliseconds"],
    )


def _next_steps(embedded: Embedded) -> str:
    bin_dir = Path(sys.executable).parent
    return f"""
[bold]What to type next[/]

  export OS_CLOUD=tavia OS_CLIENT_CONFIG_FILE={embedded.clouds_file} PATH={bin_dir}:$PATH
  openstack loadbalancer status show demo-lb      [dim]everything below it, and whether it works[/]
  openstack loadbalancer member list demo-pool    [dim]the two backends[/]
  openstack loadbalancer amphora list             [dim]who carries the traffic[/]
  openstack loadbalancer failover demo-lb         [dim]replace both amphorae; requests go on[/]
  tavia network list                              [dim]where to put a load balancer of your own[/]
  tavia status                                    [dim]the services, and their logs[/]
  make down                                       [dim]remove all of it[/]"""
