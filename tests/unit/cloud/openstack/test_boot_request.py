"""What Nova is asked for, in openstacksdk's words."""

from __future__ import annotations

from typing import Any

from tavia.cloud.openstack.compute import _request
from tavia.cloud.openstack.userdata import user_data
from tavia.cloud.protocols import ServerSpec, Volume

FILES = {"/etc/octavia/amphora-agent.conf": b"x"}


def asked(**more: Any) -> dict[str, Any]:
    return _request(
        ServerSpec(
            name="a",
            image_id="image",
            flavor="flavor",
            port_ids=["mgmt", "vrrp"],
            files=FILES,
            tags=frozenset({"tavia-deployment=1", "tavia-amphora=2"}),
            **more,
        )
    )


def test_what_is_not_wanted_is_not_asked_for() -> None:
    assert asked() == {
        "name": "a",
        "flavor_id": "flavor",
        "image_id": "image",
        "networks": [{"port": "mgmt"}, {"port": "vrrp"}],
        "config_drive": True,
        "user_data": user_data(FILES),
        "tags": ["tavia-amphora=2", "tavia-deployment=1"],
    }


def test_where_it_is_placed_and_who_may_log_in() -> None:
    wanted = asked(availability_zone="z", key_name="k", server_group_id="g")
    assert (wanted["availability_zone"], wanted["key_name"]) == ("z", "k")
    assert wanted["scheduler_hints"] == {"group": "g"}


def test_a_volume_is_made_from_the_image_and_goes_with_the_server() -> None:
    wanted = asked(volume=Volume(size=8, type="ssd"))
    assert "image_id" not in wanted
    assert wanted["block_device_mapping"] == [
        {
            "boot_index": 0,
            "uuid": "image",
            "source_type": "image",
            "destination_type": "volume",
            "volume_size": 8,
            "volume_type": "ssd",
            "delete_on_termination": True,
        }
    ]
