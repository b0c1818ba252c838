"""One cloud for all tests here, and one Tavia on it; see tests/support/openstack_cloud.py for which cloud that is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from amphora_image import uploaded
from mariadb import MariaDb
from openstack_cloud import TINY_IMAGE, NoCloud, OpenStackCloud, find_cloud
from rabbitmq import RabbitMQ
from tavia_on_cloud import TaviaOnCloud, tavia_on_cloud

LONGEST_TEST = 1800
"""Seconds; the first one of a run may have to wait until the cloud is installed, which takes six minutes alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONGEST_TEST))


@pytest.fixture(scope="session")
def cloud() -> OpenStackCloud:
    """A real OpenStack; skips where there is none."""
    try:
        return find_cloud()
    except NoCloud as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def tiny_tag(cloud: OpenStackCloud) -> Iterator[str]:
    """A tag of an image that boots in seconds and has no agent."""
    tag = f"tavia-test-{secrets.token_hex(4)}"
    image = cloud.admin.image.find_image(TINY_IMAGE, ignore_missing=False)
    cloud.admin.image.add_tag(image, tag)
    yield tag
    cloud.admin.image.remove_tag(image, tag)


@pytest.fixture(scope="session")
def amphora_tag(cloud: OpenStackCloud) -> Iterator[str]:
    """The tag of the image that ``make image`` built."""
    with uploaded(cloud) as tag:
        yield tag


@pytest.fixture(scope="session")
def tavia_of_the_session(
    cloud: OpenStackCloud,
    amphora_tag: str,
    mariadb: MariaDb,
    rabbitmq_of_the_session: RabbitMQ,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TaviaOnCloud]:
    rabbitmq_of_the_session.heal()
    directory = tmp_path_factory.mktemp("tavia")
    with tavia_on_cloud(
        cloud, directory, mariadb.create_database(), amphora_tag, transport_url=rabbitmq_of_the_session.url
    ) as tavia:
        yield tavia


@pytest.fixture
def tavia(tavia_of_the_session: TaviaOnCloud) -> Iterator[TaviaOnCloud]:
    """All four services. What a test makes is gone afterwards, on the cloud too."""
    yield tavia_of_the_session
    tavia_of_the_session.clear()
