"""What keeps a server from booting is told by its cause, and once the cause is gone the load balancer goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from controllers import Service
from faults import Expected, healed, nothing_half_made, parts, removed_again, shown, vip_parts
from instance import eventually
from openstack_cloud import TINY_FLAVOR, OpenStackCloud
from tavia_on_cloud import TaviaOnCloud

SHOWN_SECONDS = 90.0
PLUGGING_SECONDS = 100.0
"""Less than any host waits for ports: vif_plugging_timeout."""


@contextmanager
def flavor(cloud: OpenStackCloud, name: str, disk: int) -> Iterator[str]:
    """One with so many GiB of disk, for the time of the block: no quota is about them."""
    made = cloud.admin.compute.create_flavor(name=name, ram=128, disk=disk, vcpus=1)
    try:
        yield made.id
    finally:
        cloud.admin.compute.delete_flavor(made)


@contextmanager
def service_project(cloud: OpenStackCloud, name: str) -> Iterator[dict[str, str]]:
    """A project of its own for the service user, with quotas that a test may change; how to log in to it."""
    identity = cloud.admin.identity
    login = cloud.settings("octavia")["auth"]
    project = identity.create_project(name=name, domain_id="default")
    try:
        user = identity.find_user(login["username"], ignore_missing=False)
        for role in ("admin", "service"):
            identity.assign_project_role_to_user(project, user, identity.find_role(role, ignore_missing=False))
        yield {**login, "auth_type": "password", "project_name": name}
    finally:
        for group in cloud.admin.network.security_groups(project_id=project.id):  # Neutron gives each a default one
            cloud.admin.network.delete_security_group(group)
        identity.delete_project(project)


def check(
    tavia: TaviaOnCloud, expected: Expected, mend: Callable[[], object] | None = None, **groups: dict[str, str]
) -> None:
    """Under a worker with these options the fault shows and nothing half made stays.

    Then it heals: under the same worker when ``mend`` was called, without one under the usual one.
    """
    made = tavia.create("unhappy")["id"]
    with tavia.another_worker(**groups) as worker, ExitStack() as cleanup:
        if mend:
            cleanup.callback(tavia.clear)  # while the project of this worker is there
        resolve_anew(worker, made)
        shown(tavia, made, worker, expected, SHOWN_SECONDS)
        nothing_half_made(tavia)
        if mend:
            mend()
            healed(tavia, made)
    if not mend:
        resolve_anew(tavia.worker, made)
        healed(tavia, made)


def resolve_anew(worker: Service, loadbalancer_id: str) -> None:
    """Have a load balancer boot with what this worker's configuration says, once nobody works on it."""

    def released() -> bool:
        try:
            worker.tavia("loadbalancer", "release", loadbalancer_id)
        except subprocess.CalledProcessError:
            return False
        return True

    eventually(released, "nobody works on it", 30)


def test_no_image_has_the_tag(booting: TaviaOnCloud, unique: str) -> None:
    expected = Expected("boot", "no-image", f"{unique}")
    check(booting, expected, controller_worker={"amp_image_tag": unique})


def test_of_two_images_with_the_tag_the_newest_is_taken_and_the_log_says_so(
    cloud: OpenStackCloud, booting: TaviaOnCloud, unique: str
) -> None:
    with cloud.image(unique, unique) as older:
        made_at = datetime.fromisoformat(cloud.admin.image.get_image(older).created_at)
        # Glance tells by the second which is newer.
        eventually(lambda: datetime.now(UTC) - made_at > timedelta(seconds=1), "its second is over", 30)
        with cloud.image(unique, unique) as newest:
            _newest_is_taken(booting, unique, newest)


def _newest_is_taken(booting: TaviaOnCloud, unique: str, newest: str) -> None:
    with booting.another_worker(controller_worker={"amp_image_tag": unique}) as worker:
        worker.freeze()  # or it might boot it before
        made = booting.create("unhappy")
        resolve_anew(worker, made["id"])
        worker.thaw()
        (server,) = eventually(lambda: booting.ours()["server"], "Nova has the server", SHOWN_SECONDS)
        assert server.image["id"] == newest
        warnings = [line for line in worker.log.read_text().splitlines() if " WARNING " in line and unique in line]
        assert len(warnings) == 1, warnings
        assert f"2 images have the tag {unique}; the newest, {newest}, is taken" in warnings[0]
        healed(booting, made["id"])  # a server that still boots would keep Nova busy for minutes


def test_the_flavor_does_not_exist(booting: TaviaOnCloud, unique: str) -> None:
    expected = Expected("boot", "flavor-missing", f"{unique}")
    check(booting, expected, controller_worker={"amp_flavor_id": unique})


def test_the_flavor_is_larger_than_every_host(cloud: OpenStackCloud, booting: TaviaOnCloud, unique: str) -> None:
    with flavor(cloud, unique, disk=1_000_000) as too_big:
        expected = Expected("boot", "no-valid-host", "No valid host was found")
        check(booting, expected, controller_worker={"amp_flavor_id": too_big})


def test_the_flavor_is_too_small_for_the_image(cloud: OpenStackCloud, booting: TaviaOnCloud, unique: str) -> None:
    with cloud.image(unique, unique, min_ram=256):
        expected = Expected("boot", "flavor-too-small", "memory is too small for requested image")
        options = {"amp_image_tag": unique, "amp_flavor_id": cloud.flavor(TINY_FLAVOR)}
        check(booting, expected, controller_worker=options)


def test_the_quota_for_servers_is_used_up(cloud: OpenStackCloud, booting: TaviaOnCloud, unique: str) -> None:
    with service_project(cloud, unique) as login:
        project = cloud.admin.identity.find_project(unique, ignore_missing=False)

        def allow(servers: int) -> None:
            cloud.admin.compute.update_quota_set(project.id, instances=servers)

        allow(0)
        check(booting, Expected("boot", "compute-quota", "Quota exceeded"), lambda: allow(1), service_auth=login)


def test_the_quota_for_ports_is_used_up(cloud: OpenStackCloud, booting: TaviaOnCloud, unique: str) -> None:
    with service_project(cloud, unique) as login:
        project = cloud.admin.identity.find_project(unique, ignore_missing=False)

        def allow(ports: int) -> None:
            cloud.admin.network.update_quota(project.id, ports=ports)

        allow(0)
        expected = Expected("boot", "port-quota", "Quota exceeded for resources")
        check(booting, expected, lambda: allow(10), service_auth=login)


def test_keystone_refuses_the_credentials(cloud: OpenStackCloud, booting: TaviaOnCloud) -> None:
    login = {**cloud.settings("octavia")["auth"], "auth_type": "password", "password": "not-the-password"}
    check(
        booting,
        Expected("control", "cloud-credentials-refused", "requires authentication|password"),
        service_auth=login,
    )


NOVA, NEUTRON = ("compute", "nova", "/servers"), ("network", "neutron", "/ports")


@pytest.mark.parametrize(
    ("service", "is_done", "is_there"),
    [
        pytest.param(NOVA, False, slice(0, 2), id="nova, before it is asked for the server"),
        pytest.param(NOVA, True, slice(0, 3), id="nova, before it says that it has the server"),
        pytest.param(NEUTRON, True, slice(0, 1), id="neutron, before it says that it has the first port"),
    ],
)
def test_a_service_goes_down_in_the_middle(
    booting: TaviaOnCloud, service: tuple[str, str, str], is_done: bool, is_there: slice
) -> None:
    kind, name, path = service
    booting.worker.stop()
    made = booting.create("unhappy")["id"]
    with booting.region.doors[kind].falls_shut("POST", path, is_passed_on=is_done):
        booting.worker.start()
        expected = Expected("boot", f"{name}-down", f"{name.title()} does not do its work")
        shown(booting, made, booting.worker, expected, SHOWN_SECONDS)
        (amphora,) = booting.amphorae(made)
        half_made = by_name(booting)
        assert set(half_made) == {*parts(amphora["id"])[is_there], *vip_parts(made)}
    booting.await_status(made, "ACTIVE")
    whole = by_name(booting)
    assert {name: whole[name] for name in half_made} == half_made, "what was there is not what is used"
    healed(booting, made)


def by_name(tavia: TaviaOnCloud) -> dict[str, str]:
    """The ids of what is ours on the cloud."""
    return {f"{kind} {thing.name}": thing.id for kind, things in tavia.ours().items() for thing in things}


def test_a_server_that_never_becomes_active_is_given_up(cloud: OpenStackCloud, booting: TaviaOnCloud) -> None:
    impatient = {"amp_active_retries": "2", "amp_active_wait_sec": "5"}
    with cloud.no_host_builds():
        made = booting.create("unhappy")["id"]
        with booting.another_worker(controller_worker=impatient, tavia={"retry_pending_seconds": "0"}) as worker:
            expected = Expected("boot", "server-never-active", r"in 10 s .*amp_active_wait_sec\): it says BUILDING")
            shown(booting, made, worker, expected, SHOWN_SECONDS)
            removed_again(booting, made)
    healed(booting, made)


def test_a_server_that_is_deleted_while_nova_plugs_its_ports_keeps_them_until_it_is_gone(
    cloud: OpenStackCloud, booting: TaviaOnCloud
) -> None:
    """Without them its host would wait for vif_plugging_timeout, here two minutes, and keep the server as long."""
    if not cloud.shows_processes:
        pytest.skip("whether Nova plugs a server's ports shows in its process")
    made = booting.create("unhappy")["id"]
    (server,) = eventually(lambda: booting.ours()["server"], "Nova has the server", 60)
    eventually(lambda: cloud.processes_of(server.id), "its host starts it", SHOWN_SECONDS)
    assert cloud.admin.compute.get_server(server.id).status == "BUILD"
    booting.api.call("DELETE", f"/lbaas/loadbalancers/{made}?cascade=true")
    eventually(lambda: not booting.left(), "nothing is left", PLUGGING_SECONDS)


def test_a_worker_that_is_killed_while_nova_boots_leaves_one_server(booting: TaviaOnCloud) -> None:
    made = booting.create("unhappy")["id"]
    eventually(lambda: booting.ours()["server"], "Nova has the server", 60)
    booting.worker.kill()
    booting.worker.start()
    healed(booting, made)
