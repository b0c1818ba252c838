"""The cloud that the driver's tests run on, see tests/support/driver_stand.py for which that is."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from driver_stand import DIRECTORY, Stand
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from tavia.cloud.protocols import Cloud, Port


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """Skips where there is no such cloud."""
    clouds, seed = DIRECTORY / "clouds.yaml", DIRECTORY / "seed.json"
    if not (clouds.is_file() and seed.is_file()):
        pytest.skip(
            f"no OpenStack in {DIRECTORY}: bring one up with cloud-up.sh and name its CL_DIR in TAVIA_TEST_CLOUD"
        )
    # Keystone closes connections when it likes, also as a request is on its way.
    options = OpenStackConfig(config_files=[str(clouds)], load_envvars=False).get_one("cl", connect_retries=3)
    admin: Any = Connection(config=options)
    try:
        admin.authorize()
    except Exception as error:
        pytest.skip(f"the OpenStack in {DIRECTORY} does not answer: {error}")
    service = yaml.safe_load(clouds.read_text())["clouds"]["cl-octavia"]["auth"]
    identity = admin.identity
    name = f"tavia-driver-{secrets.token_hex(4)}"
    project = identity.create_project(name=name, domain_id="default")
    tags = frozenset({f"tavia-deployment={name}", "tavia-amphora=a"})
    found = Stand(admin, service, project.id, json.loads(seed.read_text()), tags)
    try:
        user = identity.find_user(service["username"], ignore_missing=False)
        for role in ("admin", "member"):
            identity.assign_project_role_to_user(project, user, identity.find_role(role, ignore_missing=False))
        yield found
    finally:
        found.clear()
        for group in admin.network.security_groups(project_id=project.id):
            admin.network.delete_security_group(group)
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
        return cloud.networking.create_port(**{**arguments, "tags": stand.tags, **changes})

    return make
