"""One Tavia for the tests here, whose amphorae are noop ones: what is real is Neutron, and who asks."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from mariadb import MariaDb
from openstack_cloud import OpenStackCloud
from tavia_on_cloud import tavia_on_cloud
from vip_stand import SETTINGS, VipStand, vip_stand


@pytest.fixture(scope="session")
def stand_of_the_session(
    cloud: OpenStackCloud, mariadb: MariaDb, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VipStand]:
    directory, name = tmp_path_factory.mktemp("vip"), f"tavia-test-{secrets.token_hex(4)}"
    with (
        tavia_on_cloud(
            cloud, directory, mariadb.create_database(), "no-image", settings=SETTINGS, has_heartbeats=False
        ) as tavia,
        vip_stand(tavia, name) as stand,
    ):
        yield stand


@pytest.fixture
def stand(stand_of_the_session: VipStand) -> Iterator[VipStand]:
    """What a test makes is gone afterwards, of Neutron too."""
    yield stand_of_the_session
    stand_of_the_session.tavia.clear()


@pytest.fixture
def unique() -> str:
    """A name that nobody else uses."""
    return f"tavia-test-{secrets.token_hex(4)}"


@pytest.fixture
def policies(stand: VipStand, unique: str) -> Iterator[tuple[str, str]]:
    """Two QoS policies of the tenant's."""
    with ExitStack() as cleanup:

        def policy(name: str) -> str:
            made = stand.neutron.create_qos_policy(name=name, project_id=stand.tavia.tenant.project_id)
            cleanup.callback(stand.neutron.delete_qos_policy, made.id)
            return str(made.id)

        both = policy(f"{unique}-1"), policy(f"{unique}-2")
        cleanup.callback(stand.tavia.clear)  # no port may have one when it goes
        yield both
