"""Facts of a deployment where all is well, for cases that change one thing."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from good_deployment import AMPHORA_GROUP, IMAGE, LEG, LOGIN, NETWORK, PLENTY, SETTINGS, Examine
from oslo_config import cfg

from tavia import config, pki
from tavia.doctor import asking_host, checks
from tavia.doctor.facts import DatabaseSeen, Facts, Flavor, Interface, Network, Subnet
from tavia.doctor.findings import Finding


@pytest.fixture(autouse=True)
def no_service_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Tavia is installed the services' user exists, and cannot read a test's files."""
    monkeypatch.setattr(asking_host, "SERVICE_USER", "no-such-user")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    pki.init(directory)
    return directory


@pytest.fixture
def conf(certificates: Path) -> Iterator[cfg.ConfigOpts]:
    made = config.parse([], "tavia", [])
    settings = {
        **SETTINGS,
        ("certificates", "ca_certificate"): str(certificates / pki.SERVER_CA),
        ("certificates", "ca_private_key"): str(certificates / pki.SERVER_CA_KEY),
        ("haproxy_amphora", "client_cert"): str(certificates / pki.CLIENT),
        ("haproxy_amphora", "server_ca"): str(certificates / pki.SERVER_CA),
        ("controller_worker", "client_ca"): str(certificates / pki.CLIENT_CA),
    }
    for (group, name), value in settings.items():
        made.set_override(name, value, group)
    yield made
    made.clear()


@pytest.fixture
def facts(conf: cfg.ConfigOpts) -> Facts:
    network = Network(id=NETWORK, name="lb-mgmt-net", mtu=1450, subnets=[Subnet(id="s1", cidr="172.16.0.0/22")])
    return Facts(
        conf=conf,
        now=datetime.now(UTC),
        assigned={},
        unused=(),
        files=asking_host.files(conf),
        interfaces=[Interface(name="o-hm0", up=True, addresses=[ipaddress.ip_interface("172.16.0.2/22")])],
        database=DatabaseSeen(revision="0004", needed="0004", clock=0.01),
        rabbit={},
        login=LOGIN,
        token_checks=LOGIN,
        clock=-0.2,
        services={"glance": None, "nova": None, "neutron": None},
        images=[IMAGE],
        flavor=Flavor(name="amphora", disk=4, ram=1024, vcpus=1),
        key_pair=True,
        hosts=["compute-1", "compute-2", "compute-3"],
        networks={NETWORK: network},
        groups={AMPHORA_GROUP.id: AMPHORA_GROUP},
        leg_ports=[LEG],
        quotas=dict.fromkeys(("instances", "cores", "ram", "server groups", "ports", "security groups"), PLENTY),
    )


@pytest.fixture
def examine(facts: Facts) -> Examine:
    """What one check says; ``options`` of the configuration and facts by name are changed before."""

    def run(check: str, options: dict[tuple[str, str], Any] | None = None, **changed: Any) -> list[Finding]:
        for (group, name), value in (options or {}).items():
            facts.conf.set_override(name, value, None if group == "DEFAULT" else group)
        found = checks.examine(dataclasses.replace(facts, **changed), on_openstack=True)
        return [finding for finding in found if finding.check == check]

    return run
