"""Servers, from their boot to their end, and what Nova says when it cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from driver_stand import Stand, booted, spec, until
from openstack_cloud import NOVA_COMPUTE

from tavia.cloud.openstack import compute
from tavia.cloud.openstack.connection import LONGEST_CALL
from tavia.cloud.openstack.userdata import user_data
from tavia.cloud.protocols import Cloud, NotFound, Port, SecurityRule, ServerStatus, Volume
from tavia.model.seams import SeamError

NOBODY = "11111111-2222-4333-8444-555555555555"

Make = Callable[..., Port]


def test_the_life_of_a_server(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    nova, networking = cloud.compute, cloud.networking
    group = networking.ensure_security_group("g", stand.tags, frozenset({SecurityRule(protocol="tcp", port=80)}))
    network_id, subnet_id = stand.management
    mgmt = make_port(network_id=network_id, fixed_ips=[(subnet_id, None)], security_group_ids=[group])
    more = make_port()
    server_id = nova.boot(spec(stand, [mgmt.id], availability_zone="nova"))
    assert [server.id for server in nova.servers(stand.tags)] == [server_id]
    assert nova.servers(stand.tags | {"tavia-amphora=another"}) == []

    server = booted(cloud, server_id)
    assert (server.status, server.fault, server.fault_code) == (ServerStatus.ACTIVE, None, None)
    assert (server.tags, server.zone, server.image_id) == (stand.tags, "nova", stand.image)
    assert abs(server.created_at - time.time()) < 300
    assert networking.port(mgmt.id).device_id == server_id
    assert stand.admin.network.get_port(mgmt.id).security_group_ids == [group]
    assert stand.admin.compute.get_server(server_id).has_config_drive

    for _ in range(2):
        nova.attach_port(server_id, more.id)
        assert networking.port(more.id).device_id == server_id
    for _ in range(2):
        nova.detach_port(server_id, more.id)
        assert networking.port(more.id).device_id == ""
    with pytest.raises(NotFound):
        nova.attach_port(server_id, NOBODY)

    for _ in range(2):
        nova.power_off(server_id)
        off = nova.server(server_id)
        assert off is not None
        assert (off.status, off.busy) == (ServerStatus.OFF, False)
    nova.power_on(server_id)
    until(lambda: _idle(cloud, server_id) is ServerStatus.ACTIVE, 60, "it runs again")

    host = stand.admin.compute.get_server(server_id).compute_host
    with _taken_out(stand, host, "disabled"):
        held = nova.server(server_id)
        assert held is not None
        assert (held.status, held.busy) == (ServerStatus.ACTIVE, True)
    with _taken_out(stand, host, "forced down"):
        lost = nova.server(server_id)
        assert lost is not None
        assert (lost.status, lost.busy) == (ServerStatus.UNKNOWN, False)
        nova.power_off(server_id)  # only a host that is surely off may be forced down: that is the proof

    for _ in range(2):
        nova.delete(server_id)
    until(lambda: nova.server(server_id) is None, 60, "it is gone")
    assert nova.servers(stand.tags) == []
    nova.detach_port(server_id, mgmt.id)
    nova.power_off(server_id)
    assert networking.port(mgmt.id).device_id == ""


def _idle(cloud: Cloud, server_id: str) -> ServerStatus | None:
    server = cloud.compute.server(server_id)
    return server.status if server and not server.busy else None


@contextmanager
def _taken_out(stand: Stand, host: str, how: str) -> Iterator[None]:
    """A compute host that an operator took out: ``how`` is disabled or forced down."""
    compute = stand.admin.compute
    service = next(compute.services(binary="nova-compute", host=host))
    if how == "disabled":
        compute.disable_service(service)
    else:
        compute.update_service_forced_down(service, forced=True)
    try:
        yield
    finally:
        compute.enable_service(service)
        compute.update_service_forced_down(service, forced=False)


def test_a_server_on_a_host_that_is_silent_is_not_proven_off(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    node = max(service.host for service in stand.admin.compute.services(binary="nova-compute"))
    server_id = cloud.compute.boot(spec(stand, [make_port().id], availability_zone=f"nova:{node}"))
    assert booted(cloud, server_id).status is ServerStatus.ACTIVE
    with stand.openstack.stopped("nova-compute", NOVA_COMPUTE, node=node):
        until(lambda: _idle(cloud, server_id) is ServerStatus.UNKNOWN, 120, "Nova misses the host")
        began = time.monotonic()
        with pytest.raises(SeamError) as refused:
            cloud.compute.power_off(server_id)
        assert time.monotonic() - began < 5
    assert (refused.value.seam, refused.value.code, refused.value.permanent) == ("boot", "server-not-off", False)
    assert "openstack compute service set --down" in refused.value.message
    until(lambda: _idle(cloud, server_id) is ServerStatus.ACTIVE, 90, "Nova hears of the host again")
    cloud.compute.power_off(server_id)
    assert _idle(cloud, server_id) is ServerStatus.OFF


def test_a_port_that_another_server_has_is_refused(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    port = make_port()
    first = cloud.compute.boot(spec(stand, [port.id]))
    until(lambda: cloud.networking.port(port.id).device_id == first, 60, "the first has it")
    with pytest.raises(SeamError) as refused:
        cloud.compute.boot(spec(stand, [port.id]))
    assert refused.value.code == "port-in-use"
    assert port.id in refused.value.message
    cloud.compute.delete(first)


def test_a_server_group_keeps_servers_apart(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    group = cloud.compute.ensure_server_group("lb-1", "anti-affinity")
    assert cloud.compute.ensure_server_group("lb-1", "anti-affinity") == group
    server_id = cloud.compute.boot(spec(stand, [make_port().id], server_group_id=group))
    found = stand.admin.compute.get_server_group(group)
    assert (found.name, found.policy, found.member_ids) == ("lb-1", "anti-affinity", [server_id])
    cloud.compute.delete(server_id)
    for _ in range(2):
        cloud.compute.delete_server_group("lb-1")
    assert [g for g in stand.admin.compute.server_groups(all_projects=True) if g.id == group] == []


def test_a_server_group_is_found_among_many(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PAGE", 1)
    groups = {name: cloud.compute.ensure_server_group(name, "soft-anti-affinity") for name in ("one", "two", "three")}
    assert len(set(groups.values())) == 3
    for name, group in groups.items():
        assert cloud.compute.ensure_server_group(name, "soft-anti-affinity") == group


def test_the_quota_of_server_groups_is_named(stand: Stand, cloud: Cloud) -> None:
    with stand.quota("compute", server_groups=0), pytest.raises(SeamError) as refused:
        cloud.compute.ensure_server_group("lb-1", "anti-affinity")
    assert (refused.value.code, refused.value.permanent) == ("server-group-quota", True)
    assert "openstack quota set --server-groups" in refused.value.message


@pytest.mark.parametrize(
    ("changes", "code", "permanent"),
    [
        ({"flavor": "none-such"}, "flavor-missing", True),
        ({"image_id": NOBODY}, "image-missing", False),
        ({"key_name": "none-such"}, "key-pair-missing", True),
        ({"availability_zone": "none-such"}, "zone-missing", True),
        ({"server_group_id": NOBODY}, "server-group-missing", False),
        ({"port_ids": [NOBODY]}, "port-gone", False),
    ],
)
def test_what_a_boot_lacks_is_named(
    stand: Stand, cloud: Cloud, make_port: Make, changes: dict[str, Any], code: str, permanent: bool
) -> None:
    wanted = spec(stand, changes.pop("port_ids", None) or [make_port().id], **changes)
    with pytest.raises(SeamError) as refused:
        cloud.compute.boot(wanted)
    assert (refused.value.seam, refused.value.code, refused.value.permanent) == ("boot", code, permanent)
    assert "Nova says" in refused.value.message


def test_a_flavor_that_is_too_small_for_the_image_is_named(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    image = stand.admin.create_image(
        "driver-large",
        data=b"no system",
        disk_format="raw",
        container_format="bare",
        owner=stand.project_id,
        min_ram=65536,
        wait=True,
    )
    with pytest.raises(SeamError) as refused:
        cloud.compute.boot(spec(stand, [make_port().id], image_id=image.id))
    assert (refused.value.code, refused.value.permanent) == ("flavor-too-small", True)


def test_the_quota_of_servers_is_named(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    with stand.quota("compute", instances=0), pytest.raises(SeamError) as refused:
        cloud.compute.boot(spec(stand, [make_port().id]))
    assert (refused.value.code, refused.value.permanent) == ("compute-quota", True)


def test_a_flavor_that_fits_on_no_host_shows_as_the_servers_fault(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    flavor = stand.admin.compute.create_flavor(name="tavia-driver-huge", ram=2**24, vcpus=64, disk=1)
    try:
        with stand.quota("compute", cores=-1, ram=-1):
            server_id = cloud.compute.boot(spec(stand, [make_port().id], flavor=flavor.id))
        server = booted(cloud, server_id)
        assert (server.status, server.fault_code) == (ServerStatus.ERROR, "no-valid-host")
        assert server.fault is not None
        assert "No valid host" in server.fault
        cloud.compute.power_off(server_id)  # it never ran
    finally:
        stand.admin.compute.delete_flavor(flavor)


def test_a_volume_is_asked_of_cinder_by_nova(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    """This cloud has no Cinder, so all that shows is that Nova takes the request and says whom it lacks."""
    volume = Volume(size=2)
    server = booted(cloud, cloud.compute.boot(spec(stand, [make_port().id], volume=volume)))
    assert (server.status, server.fault_code, server.image_id) == (ServerStatus.ERROR, "volume-failed", None)
    assert server.fault is not None
    assert "volumev3" in server.fault


def test_files_that_are_too_large_are_refused_before_nova_sees_them(stand: Stand, cloud: Cloud) -> None:
    with pytest.raises(SeamError) as refused:
        cloud.compute.boot(spec(stand, [], files={"/etc/large": b"x" * 40_000}))
    assert (refused.value.code, refused.value.permanent) == ("user-data-too-large", True)
    assert "/etc/large: 40000" in refused.value.message


def test_a_server_that_still_boots_cannot_be_proven_off_for_long(stand: Stand, cloud: Cloud, make_port: Make) -> None:
    server_id = cloud.compute.boot(spec(stand, [make_port().id]))
    began = time.monotonic()
    try:
        cloud.compute.power_off(server_id)
    except SeamError as refused:
        assert refused.code == "server-not-off"
    else:
        off = cloud.compute.server(server_id)
        assert off is not None
        assert off.status is ServerStatus.OFF
    assert time.monotonic() - began < LONGEST_CALL


def test_what_a_server_is_given_is_never_logged(
    stand: Stand, cloud: Cloud, make_port: Make, caplog: pytest.LogCaptureFixture
) -> None:
    secret = b"-----BEGIN PRIVATE KEY----- of an amphora"
    with caplog.at_level(logging.DEBUG), pytest.raises(SeamError, match="flavor-missing"):
        cloud.compute.boot(spec(stand, [make_port().id], flavor="none-such", files={"/key": secret}))
    assert "POST /v2.1/servers" in caplog.text
    assert "/v2.0/ports" in caplog.text
    assert user_data({"/key": secret}) not in caplog.text
    assert stand.service["password"] not in caplog.text
