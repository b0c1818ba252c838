"""The driver's tests run in a project of their own; see tests/support/openstack_cloud.py for which cloud that is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver_stand import Stand
from openstack_cloud import NoCloud, find_cloud

from tavia.cloud.protocols import Cloud, Port, PortSpec


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """Skips where there is no cloud."""
    try:
        openstack = find_cloud()
    except NoCloud as reason:
        pytest.skip(str(reason))
    identity, network = openstack.admin.identity, openstack.admin.network
    name = f"tavia-driver-{secrets.token_hex(4)}"
    project = identity.create_project(name=name, domain_id="default")
    found = Stand(openstack, project.id, frozenset({f"tavia-deployment={name}", "tavia-amphora=a"}))
    try:
        user = identity.find_user(found.service["username"], ignore_missing=False)
        for role in ("admin", "member"):
            identity.assign_project_role_to_user(project, user, identity.find_role(role, ignore_missing=False))
        yield found
    finally:
        found.clear()
        for group in network.security_groups(project_id=project.id):
            network.delete_security_group(group)
        identity.delete_project(project)


@pytest.fixture
def cloud(stand: Stand, tmp_path: Path) -> Iterator[Cloud]:
    """What the driver makes through it is gone afterwards."""
    yield stand.cloud(tmp_path)
    stand.clear()


@pytest.fixture
def make_port(stand: Stand, cloud: Cloud) -> Callable[..., Port]:
    """A port of ours on the tenants' network; what is given replaces its arguments."""

    def make(**changes: Any) -> Port:
        network_id, subnet_id = stand.tenants
        arguments: dict[str, Any] = {"name": "p", "network_id": network_id, "fixed_ips": [(subnet_id, None)]}
        return cloud.networking.create_port(PortSpec(**{**arguments, "tags": stand.tags, **changes}))

    return make
