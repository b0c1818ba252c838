"""A load balancer of two amphorae on two compute nodes: the VIP moves when the master's server dies."""

from __future__ import annotations

from collections.abc import Sequence

import served
from instance import eventually
from outage import outage_of
from served import await_served
from tavia_on_cloud import BOOT_SECONDS, TaviaOnCloud
from tenant import TenantServer

from tavia.cli.api_client import Json

LONGEST_OUTAGE = 10.0
"""Seconds; adverts every second, three of them missed, and one processor for all guests."""


APART = {"nova": {"enable_anti_affinity": "true", "anti_affinity_policy": "anti-affinity"}}


def test_the_vip_moves_to_the_other_host_when_the_masters_server_is_killed_and_both_can_be_replaced(
    tavia: TaviaOnCloud, server: TenantServer
) -> None:
    with tavia.topology("ACTIVE_STANDBY"), tavia.another_worker(**APART):
        pair = served.create(tavia, server, "pair", 8081, 8082)
        assert len(hosts(tavia, pair.await_whole())) == 2
        with tavia.tenant.floating_ip(pair.vip_port_id) as outside:
            await_served(outside, "8081", "8082")
            master = eventually(lambda: tavia.vrrp_master(pair.id), "one half says that it is the master")
            end = tavia.cloud.kill_server if tavia.cloud.shows_processes else tavia.cloud.admin.compute.stop_server
            outage = outage_of(
                outside,
                lambda: end(master["compute_id"]),
                lambda: tavia.vrrp_masters(pair.id).keys() - {master["id"]},
            )
            assert 0 < outage < LONGEST_OUTAGE
            pair.await_whole(seconds=2 * BOOT_SECONDS)
            await_served(outside, "8081", "8082")
            # A cloud of two hosts has none for a third server: the old halves have to leave first, one after the other.
            old = pair.amphorae()
            tavia.api.call("PUT", f"/lbaas/loadbalancers/{pair.id}/failover")
            new = pair.await_whole(lost=old, seconds=4 * BOOT_SECONDS)
            assert len(hosts(tavia, new)) == 2
            await_served(outside, "8081", "8082")
        tavia.tenant.openstack("loadbalancer", "delete", "--cascade", "--wait", pair.name)
    eventually(lambda: not tavia.left(), "nothing of it is left on the cloud, the server group neither", 60)


def hosts(tavia: TaviaOnCloud, amphorae: Sequence[Json]) -> set[str]:
    """The compute hosts of their servers."""
    compute = tavia.cloud.admin.compute
    return {compute.get_server(amphora["compute_id"]).compute_host for amphora in amphorae}
