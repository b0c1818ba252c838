"""``tavia network ...`` and the stand-in for Neutron, against a real local cloud."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, make_server

import openstack
import pytest
from instance_driver import Driver, driving
from openstack.connection import Connection

from tavia import config
from tavia.api.service import application
from tavia.cli.embedded import render
from tavia.cli.progress import wait_until
from tavia.store import migrate


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """An instance of which only the cloud runs."""
    with driving(tmp_path_factory.mktemp("network") / "state") as driver:
        driver.embedded.state_dir.mkdir()
        driver.embedded.marker.touch()
        daemon = subprocess.Popen(driver.embedded.services()[0].argv, stderr=subprocess.DEVNULL)
        try:
            assert wait_until(driver.embedded.cloud_answers, 30)
            yield driver
        finally:
            daemon.terminate()
            daemon.wait(30)


def rows(driver: Driver) -> dict[str, dict[str, str]]:
    listed = json.loads(driver.tavia("network", "list", "-f", "json").stdout)
    return {row["network"]: row for row in listed}


def test_the_networks_that_every_instance_has_are_listed(cloud: Driver) -> None:
    assert set(rows(cloud)) == {"demo-net", "lb-mgmt-net"}


def test_a_network_is_made_shown_and_removed(cloud: Driver) -> None:
    cloud.tavia("network", "create", "blue", "--cidr", "10.77.0.0/24")
    shown = json.loads(cloud.tavia("network", "show", "blue", "-f", "json").stdout)
    assert (shown["cidr"], shown["gateway_ip"], shown["subnet"]) == ("10.77.0.0/24", "10.77.0.1", "blue-subnet")
    assert rows(cloud)["blue"]["subnet_id"] == shown["subnet_id"]
    cloud.tavia("network", "delete", shown["id"])
    assert "blue" not in rows(cloud)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "blue", "--cidr", "10.77.0.5/24"), "host bits"),
        (("create", "blue", "--cidr", "198.19.0.0/25"), "overlaps"),
        (("delete", "nowhere"), "there are: demo-net, lb-mgmt-net"),
        (("delete", "lb-mgmt-net"), "ports"),
    ],
)
def test_a_mistake_is_told_with_its_reason(cloud: Driver, words: tuple[str, ...], told: str) -> None:
    refused = cloud.tavia("network", *words, ok=False)
    assert refused.returncode == 1
    assert told in refused.stderr


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def connection(cloud: Driver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """openstacksdk, as ``tavia up`` writes it into clouds.yaml, but for the port."""
    directory = tmp_path_factory.mktemp("api")
    database, config_file = f"sqlite:///{directory / 'tavia.sqlite'}", directory / "octavia.conf"
    drivers = {"compute_driver": "compute_local_driver", "network_driver": "network_local_driver"}
    settings = {
        "api_settings": {"auth_strategy": "noauth"},
        "controller_worker": drivers | {"image_driver": "image_local_driver"},
        "database": {"connection": database},
        "tavia": {"state_dir": str(cloud.embedded.state_dir)},
    }
    config_file.write_text(render(settings))
    migrate.upgrade(database)
    app = application(config.load(["--config-file", str(config_file)], "tavia-api"))
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_type="none",
            auth={"endpoint": url},
            network_endpoint_override=f"{url}/network",
        )
        server.shutdown()
        thread.join()


def test_openstack_clients_find_a_subnet_by_name_and_by_id(cloud: Driver, connection: Connection) -> None:
    subnet_id = rows(cloud)["demo-net"]["subnet_id"]
    assert [subnet.id for subnet in connection.network.subnets(name="demo-subnet")] == [subnet_id]
    assert [subnet.name for subnet in connection.network.subnets(id=subnet_id)] == ["demo-subnet"]
    found = connection.network.find_subnet(subnet_id)
    assert found
    assert found.cidr == "198.19.0.0/24"


def test_openstack_clients_find_nothing_where_there_is_nothing(connection: Connection) -> None:
    assert list(connection.network.subnets(name="elsewhere")) == []
    assert connection.network.find_network("elsewhere") is None


def test_openstack_clients_see_the_addresses_of_ports(connection: Connection) -> None:
    (leg,) = connection.network.ports(name="o-hm0")
    assert leg.fixed_ips[0]["ip_address"] == "198.18.0.2"
