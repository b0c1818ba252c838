"""What Nova says of a server, and what that proves."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.compute.v2.server import Server as NovasServer

from tavia.cloud.openstack.compute import _is_off, _server
from tavia.cloud.protocols import ServerStatus


def novas(**changes: Any) -> NovasServer:
    """As Nova answers an administrator at the microversion that we ask by."""
    body = {
        "id": "6a6c",
        "name": "amphora-1",
        "status": "ACTIVE",
        "created": "2026-11-24T15:27:02Z",
        "tags": ["tavia-amphora=1"],
        "image": {"id": "8646"},
        "OS-EXT-AZ:availability_zone": "nova",
        "OS-EXT-SRV-ATTR:host": "compute-7",
        "OS-EXT-STS:task_state": None,
        "OS-SRV-USG:launched_at": "2026-11-24T15:27:15.000000",
        "host_status": "UP",
    }
    return NovasServer.existing(**{**body, **changes})


def test_a_server_that_runs() -> None:
    server = _server(novas())
    assert (server.status, server.busy, server.zone, server.image_id) == (ServerStatus.ACTIVE, False, "nova", "8646")
    assert server.host == "compute-7"
    assert (server.created_at, server.tags) == (1795534022.0, frozenset({"tavia-amphora=1"}))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("BUILD", ServerStatus.BUILDING),
        ("HARD_REBOOT", ServerStatus.ACTIVE),
        ("SHUTOFF", ServerStatus.OFF),
        ("PAUSED", ServerStatus.OFF),
        ("SUSPENDED", ServerStatus.OFF),
        ("SHELVED_OFFLOADED", ServerStatus.OFF),
        ("ERROR", ServerStatus.ERROR),
        ("MIGRATING", ServerStatus.UNKNOWN),
        ("RESCUE", ServerStatus.UNKNOWN),
        ("UNKNOWN", ServerStatus.UNKNOWN),
        ("a state of a later release", ServerStatus.UNKNOWN),
    ],
)
def test_statuses(status: str, expected: ServerStatus) -> None:
    assert _server(novas(status=status)).status is expected


@pytest.mark.parametrize(
    ("changes", "status", "busy"),
    [
        ({"OS-EXT-STS:task_state": "powering-off"}, ServerStatus.ACTIVE, True),
        ({"host_status": "MAINTENANCE"}, ServerStatus.ACTIVE, True),
        ({"host_status": ""}, ServerStatus.ACTIVE, False),
        ({"host_status": None}, ServerStatus.ACTIVE, False),
        ({"host_status": "UNKNOWN"}, ServerStatus.UNKNOWN, False),
        ({"host_status": "DOWN", "OS-EXT-STS:task_state": "pausing"}, ServerStatus.UNKNOWN, False),
    ],
)
def test_what_is_under_way_and_what_is_lost(changes: dict[str, Any], status: ServerStatus, busy: bool) -> None:
    server = _server(novas(**changes))
    assert (server.status, server.busy) == (status, busy)


@pytest.mark.parametrize(
    ("changes", "off"),
    [
        ({}, False),
        ({"status": "SHUTOFF"}, True),
        ({"status": "PAUSED"}, True),
        ({"status": "SHUTOFF", "OS-EXT-STS:task_state": "powering-on"}, False),
        ({"host_status": "UNKNOWN"}, False),
        ({"host_status": "DOWN"}, True),
        ({"status": "ERROR"}, False),
        ({"status": "ERROR", "OS-SRV-USG:launched_at": None}, True),
        ({"status": "BUILD", "OS-SRV-USG:launched_at": None}, False),
    ],
)
def test_what_is_proven_off(changes: dict[str, Any], off: bool) -> None:
    assert _is_off(novas(**changes)) is off


def test_a_server_in_error_tells_why() -> None:
    fault = {"code": 500, "created": "2026-11-24T15:19:27Z", "message": "No valid host was found. "}
    server = _server(novas(status="ERROR", fault=fault))
    assert (server.fault, server.fault_code) == ("No valid host was found. ", "no-valid-host")
    assert _server(novas()).fault_code is None


def test_a_server_that_boots_from_a_volume_has_no_image() -> None:
    assert _server(novas(image="")).image_id is None
