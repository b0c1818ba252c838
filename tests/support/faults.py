"""What must be seen of a failure: on the object, in the journal, in the log once, and that nothing half made stays."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controllers import Service
from instance import eventually
from tavia_on_cloud import NOVA_SECONDS, TaviaOnCloud

from tavia.cli.api_client import Json
from tavia.worker.boots import server_name
from tavia.worker.security import group_name


@dataclass(frozen=True)
class Expected:
    """``says`` is a regular expression that the message contains: the cloud's own words, what the operator can do."""

    seam: str
    code: str
    says: str


def shown(tavia: TaviaOnCloud, loadbalancer_id: str, worker: Service, expected: Expected, seconds: float) -> Json:
    """Wait until the load balancer is in ERROR with this fault, as everybody is told; it as the API shows it."""
    found = tavia.await_status(loadbalancer_id, "ERROR", seconds)
    told_everywhere(tavia, found, worker, expected)
    return found


def told_everywhere(tavia: TaviaOnCloud, found: Json, worker: Service, expected: Expected) -> None:
    """The object's fault, an operation of the journal and one line of the log say the same."""
    fault = found["fault"]
    assert fault, f"{found['provisioning_status']} without a fault:\n{tavia.told(found['id'])}"
    assert (fault["seam"], fault["code"]) == (expected.seam, expected.code), fault
    assert re.search(expected.says, fault["message"]), fault["message"]
    journalled = [(row["seam"], row["code"], row["reason"]) for row in tavia.operations(found["id"])]
    assert (fault["seam"], fault["code"], fault["message"]) in journalled, journalled
    errors = [
        line
        for line in worker.log.read_text().splitlines()
        if " ERROR " in line and found["id"] in line and f"{expected.seam}/{expected.code}" in line
    ]
    assert len(errors) == 1, f"told {len(errors)} times in the log: {errors}"


def nothing_half_made(tavia: TaviaOnCloud) -> None:
    """Return when of the cloud's things only the VIPs' are ours, and the ports of an amphora that is tried again.

    Raises AssertionError when that takes longer than Nova takes to delete a server.
    """
    eventually(lambda: not _strays(tavia), "what was half made is removed", NOVA_SECONDS)


def removed_again(tavia: TaviaOnCloud, loadbalancer_id: str) -> None:
    """Return when nothing is left of the first amphora that it had, whatever is made in its place meanwhile.

    Raises AssertionError when that takes longer than Nova takes to delete a server.
    """
    sql = "SELECT id, fault FROM amphora WHERE loadbalancer_id = :id ORDER BY created_at"
    first = tavia.rows(sql, id=loadbalancer_id)[0]
    assert first["fault"], "it was not given up"
    eventually(
        lambda: not [name for name in tavia.left() if first["id"] in name], "what was given up is removed", NOVA_SECONDS
    )


def healed(tavia: TaviaOnCloud, loadbalancer_id: str) -> None:
    """The cause is gone: it becomes ACTIVE by itself and shows no fault, nothing is there twice.

    Deleted, it leaves nothing.
    """
    found = tavia.await_status(loadbalancer_id, "ACTIVE")
    assert found["fault"] is None
    eventually(lambda: _is_whole(tavia, loadbalancer_id), "what one amphora needs is all there is", NOVA_SECONDS)
    tavia.delete(loadbalancer_id)
    eventually(lambda: not tavia.left(), "nothing is left", NOVA_SECONDS)


def _is_whole(tavia: TaviaOnCloud, loadbalancer_id: str) -> bool:
    (amphora,) = tavia.amphorae(loadbalancer_id)
    return sorted(tavia.left()) == sorted([*parts(amphora["id"]), *vip_parts(loadbalancer_id)])


def parts(amphora_id: str) -> list[str]:
    """What a single amphora without members' subnets is made of: its server last."""
    ports = [f"port octavia-lb-{purpose}-{amphora_id}" for purpose in ("mgmt", "vrrp")]
    return [*ports, f"server {server_name(amphora_id, 0)}"]


def vip_parts(loadbalancer_id: str) -> list[str]:
    """What stands for the VIP."""
    return [f"port octavia-lb-{loadbalancer_id}", f"security group {group_name(loadbalancer_id)}"]


def _strays(tavia: TaviaOnCloud) -> list[str]:
    standing = [row["id"] for row in tavia.rows("SELECT id FROM amphora WHERE status = 'BOOTING'")]
    of_amphorae = [name for name in tavia.left() if re.search("^server |-mgmt-|-vrrp-", name)]
    return [name for name in of_amphorae if not any(amphora_id in name for amphora_id in standing)]
