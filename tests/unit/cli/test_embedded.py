"""The embedded instance's files: a configuration that Tavia itself accepts whole, and a clouds.yaml for its clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from openstack.config import OpenStackConfig

from tavia import config
from tavia.cli.embedded import Embedded, listen, render
from tavia.model.seams import SeamError


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded.of(tmp_path / "state")


def write(embedded: Embedded, port: int = 9876) -> None:
    embedded.state_dir.mkdir()
    embedded.config_file.write_text(render(embedded._settings(port, "k$y", "the-management-network")))


def test_every_setting_is_an_option_of_tavias_and_valid(embedded: Embedded) -> None:
    write(embedded)
    conf = config.load(["--config-file", str(embedded.config_file)], "tavia-worker")
    assert config.unused_options(conf) == []
    assert conf.controller_worker.amp_boot_network_list == ["the-management-network"]
    assert conf.controller_worker.loadbalancer_topology == "ACTIVE_STANDBY"
    assert conf.tavia.state_dir == str(embedded.state_dir)


def test_a_dollar_in_a_value_is_a_dollar(embedded: Embedded) -> None:
    write(embedded)
    conf = config.load(["--config-file", str(embedded.config_file)], "tavia-worker")
    assert conf.health_manager.heartbeat_key == "k$y"


def test_the_api_listens_on_loopback_only(embedded: Embedded) -> None:
    write(embedded)
    conf = config.load(["--config-file", str(embedded.config_file)], "tavia-api")
    assert (conf.api_settings.auth_strategy, conf.api_settings.bind_host) == ("noauth", "127.0.0.1")


def test_the_port_is_read_back_from_the_configuration(embedded: Embedded) -> None:
    write(embedded, port=9901)
    assert embedded.api_url == "http://127.0.0.1:9901"


def test_without_a_configuration_the_way_on_is_named(embedded: Embedded) -> None:
    with pytest.raises(SeamError, match="tavia up"):
        _ = embedded.api_url


def test_clouds_yaml_names_the_api_and_what_stands_in_for_neutron(embedded: Embedded) -> None:
    write(embedded)
    embedded.write_clouds_yaml()
    cloud = OpenStackConfig(config_files=[str(embedded.clouds_file)], load_envvars=False).get_one("tavia")
    assert cloud.config["auth_type"] == "none"
    assert cloud.get_session().get_endpoint() == "http://127.0.0.1:9876"
    assert cloud.get_endpoint("network") == "http://127.0.0.1:9876/network"


def test_clouds_yaml_of_two_instances_do_not_collide(tmp_path: Path) -> None:
    assert Embedded.of(tmp_path / "state").clouds_file == tmp_path / "clouds.yaml"
    assert Embedded.of(tmp_path / "second").clouds_file == tmp_path / "second" / "clouds.yaml"


def test_the_services_that_talk_to_amphorae_live_in_the_fabric(embedded: Embedded) -> None:
    in_fabric = {service.name for service in embedded.services() if service.argv[0] == "nsenter"}
    assert in_fabric == {"tavia-worker", "tavia-health-manager"}


def test_the_cloud_starts_before_all_others(embedded: Embedded) -> None:
    first, *rest = embedded.services()
    assert first.name == "tavia-local-cloud"
    assert first.may_start()
    assert not any(service.may_start() for service in rest)


def test_a_port_in_use_is_passed_over_unless_it_was_asked_for() -> None:
    with listen(None) as ours, listen(None) as theirs:
        first, second = (each.getsockname()[1] for each in (ours, theirs))
        assert 9876 <= first < second
        with pytest.raises(SeamError, match=f"another program listens on port {first}") as refused:
            listen(first)
    assert refused.value.code == "port-taken"
