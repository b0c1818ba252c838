"""What a load balancer says of itself: its tree of statuses, its statistics, the reason of an error."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, insert
from tests.api.conftest import TREE, Api

from tavia.model.resources import Amphora
from tavia.store import schema
from tavia.store.clock import now, utcnow
from tavia.store.rows import to_row


def test_the_status_tree_shows_listeners_their_pools_and_what_is_below(api: Api) -> None:
    created = api.loadbalancer(name="lb", **TREE)
    path = f"/loadbalancers/{created['id']}"
    tree = api.get(f"{path}/status")["statuses"]["loadbalancer"]
    assert api.get(f"{path}/statuses")["statuses"]["loadbalancer"] == tree
    assert (tree["name"], tree["provisioning_status"]) == ("lb", "PENDING_CREATE")
    web, inline = (listener["pools"][0] for listener in tree["listeners"])
    assert (web["health_monitor"]["type"], [m["address"] for m in web["members"]]) == ("HTTP", ["10.0.0.1", "10.0.0.2"])
    assert "health_monitor" not in inline
    assert web["members"][0].keys() == {
        *("id", "name", "operating_status", "provisioning_status", "address", "protocol_port")
    }


def test_statistics_are_sums_over_amphorae_and_listeners(api: Api) -> None:
    created = api.loadbalancer(**TREE)
    first, second = (listener["id"] for listener in created["listeners"])
    zeros = dict.fromkeys(("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors"), 0)
    assert api.get(f"/loadbalancers/{created['id']}/stats")["stats"] == zeros
    rows = [
        zeros | {"bytes_in": number, "listener_id": listener, "amphora_id": amphora, "loadbalancer_id": created["id"]}
        for number, listener, amphora in ((1, first, "a"), (10, first, "b"), (100, second, "a"))
    ]
    api.database.write(lambda conn: conn.execute(insert(schema.listener_statistics), rows))
    assert api.get(f"/loadbalancers/{created['id']}/stats")["stats"] == zeros | {"bytes_in": 111}
    assert api.get(f"/listeners/{first}/stats")["stats"] == zeros | {"bytes_in": 11}


def test_connections_are_active_where_their_amphora_reports(api: Api) -> None:
    lb = api.loadbalancer()["id"]
    ago = {"speaks": 1.0, "silent": 61.0, "purged": None}
    counters = dict.fromkeys(schema.COUNTERS, 5)

    def write(conn: Connection) -> None:
        for amphora_id, seconds in ago.items():
            row = {"listener_id": "web", "amphora_id": amphora_id, "loadbalancer_id": lb}
            conn.execute(insert(schema.listener_statistics).values(row | counters))
            if seconds is not None:
                conn.execute(insert(schema.amphora).values(to_row(Amphora(id=amphora_id, created_at=utcnow()))))
                health = {"boot_count": 1, "seq": 1, "generation": 1, "haproxy_up": True, "amphora_id": amphora_id}
                conn.execute(insert(schema.amphora_health).values(last_update=now() - seconds, **health))

    api.database.write(write)
    assert api.get(f"/loadbalancers/{lb}/stats")["stats"] == dict.fromkeys(schema.COUNTERS, 15) | {
        "active_connections": 5
    }
    for amphora_id, active in (("speaks", 5), ("silent", 0)):
        (shown,) = api.get(f"/v2/octavia/amphorae/{amphora_id}/stats")["amphora_stats"]
        assert (shown["active_connections"], shown["total_connections"]) == (active, 5)


@pytest.mark.parametrize(("counted", "shown"), [(2**62, 2**63 - 1), (2**61 + 2**31, 2**62 + 2**32)])
def test_sums_of_huge_counters_are_what_clients_can_read(api: Api, counted: int, shown: int) -> None:
    lb = api.loadbalancer()["id"]
    ids = {"listener_id": "web", "loadbalancer_id": lb}
    rows = [dict.fromkeys(schema.COUNTERS, counted) | ids | {"amphora_id": amphora_id} for amphora_id in "ab"]
    api.database.write(lambda conn: conn.execute(insert(schema.listener_statistics), rows))
    assert api.get(f"/loadbalancers/{lb}/stats")["stats"]["bytes_in"] == shown


def test_the_reason_of_an_error_is_shown(api: Api) -> None:
    created = api.loadbalancer()
    fault = {"code": "no-image", "seam": "boot", "message": "there is none", "since": "2026-01-01T00:00:00"}
    table = schema.load_balancer
    api.database.write(lambda conn: conn.execute(table.update().values(provisioning_status="ERROR", fault=fault)))
    assert api.get(f"/loadbalancers/{created['id']}")["loadbalancer"]["fault"] == fault
