"""Tavias whose amphorae fail: one whose amphorae are tiny servers that need no agent, for what breaks at the boot."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from mariadb import MariaDb
from openstack_cloud import TINY_FLAVOR, OpenStackCloud
from tavia_on_cloud import TaviaOnCloud, tavia_on_cloud


@pytest.fixture(scope="module")
def booting_of_the_module(
    cloud: OpenStackCloud, tiny_tag: str, mariadb: MariaDb, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TaviaOnCloud]:
    settings = {
        "controller_worker": {
            "amphora_driver": "amphora_noop_driver",
            "amp_flavor_id": cloud.flavor(TINY_FLAVOR),
        },
        "tavia": {"lease_ttl": "6", "retry_pending_seconds": "2", "retry_interval_max": "3"},
    }
    directory = tmp_path_factory.mktemp("booting")
    with tavia_on_cloud(
        cloud, directory, mariadb.create_database(), tiny_tag, settings=settings, has_heartbeats=False
    ) as tavia:
        yield tavia


@pytest.fixture
def booting(booting_of_the_module: TaviaOnCloud) -> Iterator[TaviaOnCloud]:
    """Real servers, and agents that answer always: what fails is the boot. Failures show after two seconds."""
    yield booting_of_the_module
    booting_of_the_module.clear()


@pytest.fixture
def unique() -> str:
    """A name that nobody else uses."""
    return f"tavia-test-{secrets.token_hex(4)}"
