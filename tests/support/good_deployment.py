"""A deployment where all is well, as `tavia doctor` finds it; tests change one thing of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tavia.doctor.facts import Group, Image, LegPort, Login, Room, Rule
from tavia.doctor.findings import Finding

NETWORK = "33b33aa1-3d5c-4d31-8c2c-6c6d2a9a3d11"
AMPHORA_GROUP = Group(
    id="9f7d4b39-1d0a-4be8-b4ab-0bd65aa2a5b1",
    name="lb-mgmt-sec-grp",
    rules=[Rule(family=4, protocol="tcp", first_port=9443, last_port=9443, remote="172.16.0.0/22")],
)
LEG_GROUP = Group(
    id="5a6e2f0c-7b1d-4c84-8e5d-0a6a5c2b7f10",
    name="lb-health-mgr-sec-grp",
    rules=[Rule(family=4, protocol="udp", first_port=5555, last_port=5555, remote=None)],
)
LEG = LegPort(id="leg", address="172.16.0.2", status="ACTIVE", groups=[LEG_GROUP])
NOW = datetime.now(UTC)
IMAGE = Image(
    id="i1",
    name="amphora-x64",
    status="active",
    owner="service-id",
    created=NOW - timedelta(days=3),
    min_disk=2,
    min_ram=512,
)
PLENTY = Room(limit=-1, used=3)
LOGIN = Login(
    user="octavia",
    project_id="service-id",
    project="service",
    roles=("admin", "service"),
    endpoints={"public": "http://10.0.0.5:9876"},
)

SETTINGS: dict[tuple[str, str], Any] = {
    ("api_settings", "bind_host"): "10.0.0.5",
    ("service_auth", "auth_type"): "password",
    ("controller_worker", "amp_image_tag"): "amphora",
    ("controller_worker", "amp_image_owner_id"): "service-id",
    ("controller_worker", "amp_flavor_id"): "200",
    ("controller_worker", "amp_boot_network_list"): [NETWORK],
    ("controller_worker", "amp_secgroup_list"): [AMPHORA_GROUP.id],
    ("database", "connection"): "mysql+pymysql://octavia:db-pass@10.0.0.20/octavia",
    ("health_manager", "bind_ip"): "172.16.0.2",
    ("health_manager", "controller_ip_port_list"): ["172.16.0.2:5555"],
    ("health_manager", "heartbeat_key"): "0d9c1b8a7f6e5d4c3b2a19080706f5e4",
}

Examine = Callable[..., list[Finding]]
"""What one check says; a check, options and facts by name to change before."""
