"""The installation guide, followed on a real cloud: what it has people type works, and `tavia doctor` agrees.

Beside what the cloud has: everything that the guide makes has a name of its own here, and is gone afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from install_guide import CHECKOUT, Shell, blocks
from instance import eventually
from openstack_cloud import OpenStackCloud

from tavia import pki

API_ADDRESS, SERVERS, NODE = "172.31.251.1", "172.31.251.2", "clnet"
"""The test cloud's: this machine as guests see it, the node with MariaDB and RabbitMQ, its network namespace."""
PROGRAMS = Path(sys.executable).parent
SERVICES = ("tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping")
NOT_TYPED_HERE = ("openvswitch", "systemd", "tenant", "image")
NAME = f"guide{secrets.token_hex(2)}"
"""As short as an interface's name has to be; of this run alone."""
LEG = f"{NAME}-hm0"

SUBSTITUTIONS = [
    (r"^(apt-get|python3 -m venv|/opt/tavia/bin/pip|useradd) .*", "true"),
    (r"/opt/tavia/bin", str(PROGRAMS)),
    (r"\$\(hostname -I .*\)", API_ADDRESS),
    (r"\$\(hostname\)", "cl-node"),
    (r"(openstack (?:user|role|service|endpoint) .*)(?<!-)\boctavia\b", rf"\1{NAME}-octavia"),
    (r"(--project|project show|--domain default|-c id) service\b", rf"\1 {NAME}-service"),
    (r"\blb-(mgmt|health)", rf"{NAME}-\1"),
    (r"(openstack flavor .*)\bamphora$", rf"\1{NAME}-amphora"),
    (r"\bflavor show (.*) amphora\)", rf"flavor show \1 {NAME}-amphora)"),
    (r"(mariadb .*DATABASE) octavia", rf"\1 {NAME}_octavia"),
    (r"octavia\.\* TO octavia", f"{NAME}_octavia.* TO {NAME}_octavia"),
    *[(r"^(rabbitmqctl .*)\boctavia\b", rf"\1{NAME}")] * 2,
    (r"\bo-hm0\b", LEG),
    (r"(peer name .*)$", rf"\1 netns {NODE}"),
    (r'^ip link set "tap', f'ip -n {NODE} link set "tap'),
    (r"-o (root|octavia) -g octavia", r"-o \1 -g nogroup"),
    (r"-o octavia", "-o nobody"),
    (r"octavia:octavia", "nobody:nogroup"),
]


class Newcomer:
    """Who follows the guide, and can look at what came of it."""

    def __init__(self, cloud: OpenStackCloud, directory: Path, stack: ExitStack) -> None:
        self.cloud, self.directory = cloud, directory
        self.configuration = directory / "etc" / "octavia.conf"
        bin_directory = directory / "bin"
        bin_directory.mkdir(mode=0o755)
        assert cloud.directory is not None
        for program in ("mariadb", "rabbitmqctl"):
            path = bin_directory / program
            path.write_text(f'#!/bin/sh\nexec {cloud.directory}/cl-exec {program} "$@"\n')
            path.chmod(0o755)
        environment = {
            "PATH": f"{bin_directory}:{PROGRAMS}:{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(directory),
            "OS_CLOUD": cloud.cloud(),
            "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_file),
        }
        self.shell = Shell(environment, [*SUBSTITUTIONS, ("/etc/octavia", str(directory / "etc"))])
        stack.callback(self.shell.close)

    def follow(self, *headings: str) -> None:
        """Type all that stands below these headings."""
        for block in blocks():
            if block.heading in headings and block.kind not in NOT_TYPED_HERE:
                for command in block.commands:
                    self.shell.run(command)

    def configure(self) -> None:
        """What the names of this test change in octavia.conf beside what the guide fills in."""
        text = self.configuration.read_text()
        for old, new in {
            "/etc/octavia/certs": str(self.directory / "etc" / "certs"),
            "username = octavia": f"username = {NAME}-octavia",
            "project_name = service": f"project_name = {NAME}-service",
            "amp_image_tag = amphora": f"amp_image_tag = {NAME}-amphora",
            "lb_network_interface = o-hm0": f"lb_network_interface = {LEG}",
            "//octavia:": f"//{NAME}_octavia:",
            "@127.0.0.1/octavia": f"@{SERVERS}/{NAME}_octavia",
            f"rabbit://{NAME}_octavia:": f"rabbit://{NAME}:",
            "@127.0.0.1:5672/octavia": f"@{SERVERS}:5672/{NAME}",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        self.configuration.write_text(text)

    def doctor(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Its exit status, and of each check the worst that it says."""
        status, said = self.shell.try_out("tavia doctor --config-file /etc/octavia/octavia.conf -f json")
        order = ("ok", "warning", "unknown", "wrong")
        findings = sorted(json.loads(said[said.index("[") :]), key=lambda finding: order.index(finding["status"]))
        found = {finding["check"]: finding for finding in findings}
        assert "keystone" in found, said
        return status, found


def _clean_up(cloud: OpenStackCloud) -> None:
    """Remove what the guide made, in whatever state it was left."""
    admin, network, identity = cloud.admin, cloud.admin.network, cloud.admin.identity
    subprocess.run(["ip", "link", "delete", LEG], capture_output=True, check=False)
    ours: list[tuple[Iterator[Any], Callable[[Any], Any]]] = [
        (network.ports(name=LEG), network.delete_port),
        (network.networks(name=f"{NAME}-mgmt-net"), network.delete_network),
        (network.security_groups(name=f"{NAME}-mgmt-sec-grp"), network.delete_security_group),
        (network.security_groups(name=f"{NAME}-health-mgr-sec-grp"), network.delete_security_group),
        (_named(admin.compute.flavors(is_public=None), f"{NAME}-amphora"), admin.compute.delete_flavor),
        (admin.image.images(tag=f"{NAME}-amphora"), admin.image.delete_image),
        (
            identity.endpoints(region_id="RegionOne"),
            lambda found: API_ADDRESS in found.url and identity.delete_endpoint(found),
        ),
        (
            identity.services(name=f"{NAME}-octavia"),
            lambda found: _is_unused(identity, found) and identity.delete_service(found),
        ),
        (_named(identity.projects(), f"{NAME}-service"), partial(_delete_project, cloud)),
        (identity.users(name=f"{NAME}-octavia"), identity.delete_user),
    ]
    for found, delete in ours:
        for thing in list(found):
            delete(thing)
    for command in (
        ["mariadb", "-e", f"DROP DATABASE IF EXISTS {NAME}_octavia; DROP USER IF EXISTS {NAME}_octavia"],
        ["rabbitmqctl", "delete_vhost", NAME],
        ["rabbitmqctl", "delete_user", NAME],
    ):
        subprocess.run([f"{cloud.directory}/cl-exec", *command], capture_output=True, check=False)


def _named(things: Iterator[Any], name: str) -> Iterator[Any]:
    return (thing for thing in things if thing.name == name)


def _is_unused(identity: Any, service: Any) -> bool:
    """Other tests' Tavias register at any service of the type."""
    return not list(identity.endpoints(service_id=service.id))


def _delete_project(cloud: OpenStackCloud, project: Any) -> None:
    for group in cloud.admin.network.security_groups(project_id=project.id):  # its default one
        cloud.admin.network.delete_security_group(group)
    cloud.admin.identity.delete_project(project)


@pytest.fixture(scope="module")
def newcomer(cloud: OpenStackCloud) -> Iterator[Newcomer]:
    """One who has come to octavia.conf."""
    if not cloud.shows_processes:
        pytest.skip("the guide's names and addresses fit the test cloud alone")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="tavia-guide-"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        stack.callback(_clean_up, cloud)
        found = Newcomer(cloud, directory, stack)
        found.follow(
            "The programs",
            "Keystone: who Tavia is",
            "Quotas of the service project",
            "The management network",
            "The controller's leg",
            "What amphorae boot from",
            "Certificates",
            "Database and RabbitMQ",
        )
        _upload_something(found)
        *all_but_the_last, upgrade = next(block.commands for block in blocks() if block.heading == "octavia.conf")
        for command in all_but_the_last:
            found.shell.run(command)
        found.configure()
        assert upgrade.startswith("tavia db upgrade")
        found.shell.run(upgrade)
        yield found


def _upload_something(newcomer: Newcomer) -> None:
    """In the amphora image's place: it takes minutes to make, and tests of its own boot it."""
    project = newcomer.cloud.admin.identity.find_project(f"{NAME}-service")
    glance = newcomer.cloud.admin.image
    image = glance.create_image(
        name=f"{NAME}-amphora",
        data=b"\0" * 1024,
        disk_format="raw",
        container_format="bare",
        tags=[f"{NAME}-amphora"],
        owner=project.id,
        validate_checksum=False,
    )
    assert image.id


def test_a_deployment_by_the_guide_is_found_to_be_good(newcomer: Newcomer) -> None:
    eventually(lambda: newcomer.doctor()[1]["heartbeat-security-group"]["status"] == "ok", "the leg is plugged", 60)
    status, found = newcomer.doctor()
    assert [finding for finding in found.values() if finding["status"] != "ok"] == []
    assert status == 0


def test_a_rule_that_is_missing_is_named_with_the_command_that_makes_it(newcomer: Newcomer) -> None:
    network = newcomer.cloud.admin.network
    (group,) = network.security_groups(name=f"{NAME}-mgmt-sec-grp")
    for rule in group.security_group_rules:
        if rule["direction"] == "ingress":
            network.delete_security_group_rule(rule["id"])
    status, found = newcomer.doctor()
    assert (status, found["amphora-security-groups"]["status"]) == (1, "wrong")
    newcomer.shell.run(found["amphora-security-groups"]["advice"])
    assert newcomer.doctor()[1]["amphora-security-groups"]["status"] == "ok"


def test_a_leg_that_is_down_is_named_with_the_command_that_mends_it(newcomer: Newcomer) -> None:
    newcomer.shell.run("ip link set o-hm0 down")
    try:
        status, found = newcomer.doctor()
        assert (status, found["controller-leg"]["status"]) == (1, "wrong")
    finally:
        newcomer.shell.run(found["controller-leg"]["advice"])
    assert newcomer.doctor()[1]["controller-leg"]["status"] == "ok"


def test_a_user_that_may_not_enough_is_named_with_the_command_that_helps(newcomer: Newcomer) -> None:
    newcomer.shell.run("openstack role add --user octavia --project service reader")
    newcomer.shell.run("openstack role remove --user octavia --project service admin")
    status, found = newcomer.doctor()
    assert (status, found["keystone"]["status"]) == (1, "wrong")
    assert found["compute-hosts"]["status"] == "unknown"  # Nova tells administrators alone
    newcomer.shell.run(found["keystone"]["advice"])
    newcomer.shell.run("openstack role remove --user octavia --project service service")
    status, found = newcomer.doctor()
    assert (status, found["keystone"]["status"], found["token-checks"]["status"]) == (1, "ok", "wrong")
    newcomer.shell.run(found["token-checks"]["advice"])
    status, found = newcomer.doctor()
    assert (status, found["token-checks"]["status"]) == (0, "ok")


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (f"amp_image_tag = {NAME}-amphora", "amp_image_tag = no-such-tag", "image"),
        ("amp_flavor_id = ", "amp_flavor_id = no-such-", "flavor"),
        ("amp_boot_network_list = ", "amp_boot_network_list = no-such-", "boot-networks"),
        ("amp_secgroup_list = ", "amp_secgroup_list = no-such-", "amphora-security-groups"),
        ("loadbalancer_topology", "amp_ssh_key_name = no-such-key\nloadbalancer_topology", "key-pair"),
        ("bind_ip = ", "bind_ip = 127.0.0.1\n#", "heartbeat-addresses"),
        (f"@{SERVERS}:5672/{NAME}", f"@{SERVERS}:5672/no-such-host", "rabbitmq"),
        ("password = ", "password = wrong-", "keystone"),
        ("region_name = RegionOne", "region_name = RegionTwo", "cloud-services"),
    ],
)
def test_a_value_that_does_not_fit_the_cloud_is_found(newcomer: Newcomer, old: str, new: str, check: str) -> None:
    good = newcomer.configuration.read_text()
    assert old in good
    newcomer.configuration.write_text(good.replace(old, new))
    try:
        status, found = newcomer.doctor()
    finally:
        newcomer.configuration.write_text(good)
    assert (status, found[check]["status"]) == (1, "wrong"), found
    assert found[check]["advice"]


@pytest.fixture(scope="module")
def services(newcomer: Newcomer) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """All four, run as their units run them: by a user without rights, with the configuration read-only."""
    with ExitStack() as stack:
        started = {}
        for service in SERVICES:
            log = (newcomer.directory / f"{service}.log").open("wb")
            words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
            words += ["--bounding-set=-all", "--inh-caps=-all", str(PROGRAMS / service)]
            process = subprocess.Popen(
                [*words, "--config-file", str(newcomer.configuration)], cwd="/", stdout=log, stderr=log
            )
            started[service] = process
            stack.callback(partial(_end, process))
        yield started


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((API_ADDRESS, port), 1).close()
    except OSError:
        return False
    return True


def test_the_services_run_without_rights_and_a_tenant_reaches_the_api_by_the_catalog(
    newcomer: Newcomer, services: dict[str, subprocess.Popen[bytes]]
) -> None:
    logs = {service: newcomer.directory / f"{service}.log" for service in SERVICES}
    (command,) = (line for block in blocks() for line in block.commands if line.startswith("tavia service list"))

    def up() -> bool:
        assert all(process.poll() is None for process in services.values()), [log.read_text() for log in logs.values()]
        return newcomer.shell.run(command).count(" up ") == len(SERVICES)

    eventually(up, "all services are up", 60)
    eventually(lambda: _listens(9876), "the API listens", 30)
    tenant = f"OS_CLOUD={newcomer.cloud.cloud('demo')} openstack loadbalancer list -f json"
    assert json.loads(newcomer.shell.run(tenant)) == []


def test_systemctl_reload_has_all_of_them_read_the_file_again(
    newcomer: Newcomer, services: dict[str, subprocess.Popen[bytes]]
) -> None:
    good = newcomer.configuration.read_text()
    newcomer.configuration.write_text(good.replace("topology = SINGLE", "topology = ACTIVE_STANDBY"))
    try:
        for process in services.values():
            process.send_signal(signal.SIGHUP)  # ExecReload of the units
        for service in SERVICES:
            log = newcomer.directory / f"{service}.log"
            eventually(lambda log=log: "loadbalancer_topology from SINGLE" in log.read_text(), f"{service} reloads", 30)  # type: ignore[misc]
    finally:
        newcomer.configuration.write_text(good)


def test_the_guide_makes_the_files_that_the_sample_names(newcomer: Newcomer) -> None:
    certificates = newcomer.directory / "etc" / "certs"
    for name in (pki.SERVER_CA, pki.SERVER_CA_KEY, pki.CLIENT_CA, pki.CLIENT):
        assert str(certificates / name) in newcomer.configuration.read_text()
        assert (certificates / name).stat().st_mode & 0o777 == 0o600
    assert (CHECKOUT / "deploy" / "systemd").is_dir()
