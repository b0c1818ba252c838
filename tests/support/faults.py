"""What must be seen of a failure: on the object, in the journal, in the log once, and that nothing half made stays."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from controllers import Service
from instance import eventually
from tavia_on_cloud import NOVA_SECONDS, TaviaOnCloud

from tavia.cli.api_client import Json


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


def nothing_half_made(tavia: TaviaOnCloud, *standing: str) -> None:
    """Return when of the cloud's things only the VIPs' are ours, and those of amphorae with these ids.

    Raises AssertionError when that takes longer than Nova takes to delete a server.
    """
    eventually(lambda: not _strays(tavia, standing), "what was half made is removed", NOVA_SECONDS)


def _strays(tavia: TaviaOnCloud, standing: Collection[str]) -> list[str]:
    of_amphorae = [name for name in tavia.left() if re.search("^server |-mgmt-|-vrrp-", name)]
    return [name for name in of_amphorae if not any(amphora_id in name for amphora_id in standing)]
