"""What is wrong with an image, a flavor, a network ... is told with what to type; nothing else is called wrong."""

from __future__ import annotations

import dataclasses
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from good_deployment import AMPHORA_GROUP, IMAGE, LEG, LEG_GROUP, LOGIN, NETWORK, PLENTY, Examine

from tavia.doctor import checks
from tavia.doctor.facts import DatabaseSeen, Facts, Flavor, Group, Interface, Network, Room, Rule, Subnet
from tavia.doctor.findings import Status, Unknown

OK, WARNING, WRONG, UNKNOWN = Status.OK, Status.WARNING, Status.WRONG, Status.UNKNOWN
WORKER, HEALTH, NOVA, API = "controller_worker", "health_manager", "nova", "api_settings"
PAIR = {(WORKER, "loadbalancer_topology"): "ACTIVE_STANDBY", (NOVA, "enable_anti_affinity"): True}
NO_OWNER = {(WORKER, "amp_image_owner_id"): None}


def image(**changed: Any) -> Any:
    return dataclasses.replace(IMAGE, **changed)


def network(mtu: int = 1450, *cidrs: str) -> dict[str, Network]:
    subnets = [Subnet(id="s1", cidr=cidr) for cidr in cidrs]
    return {NETWORK: Network(id=NETWORK, name="lb-mgmt-net", mtu=mtu, subnets=subnets)}


def group(*rules: Rule) -> dict[str, Group]:
    return {AMPHORA_GROUP.id: Group(id=AMPHORA_GROUP.id, name="g", rules=rules)}


def rule(protocol: str | None, first: int | None, last: int | None, **more: Any) -> Rule:
    return Rule(family=more.pop("family", 4), protocol=protocol, first_port=first, last_port=last, **more)


def interfaces(address: str, name: str = "o-hm0", *, up: bool = True) -> list[Interface]:
    return [Interface(name=name, up=up, addresses=[ipaddress.ip_interface(address)])]


def test_a_good_deployment_is_found_to_be_good(facts: Facts) -> None:
    found = [*checks.examine(facts, on_openstack=True)]
    assert [finding for finding in found if finding.status is not OK] == []
    has_something_to_say = {finding.check for finding in found}
    assert {check.code for check in checks.CHECKS} - has_something_to_say == {"rabbitmq", "key-pair"}


CASES: list[tuple[str, dict[tuple[str, str], Any], dict[str, Any], Status, str, str]] = [
    # -- image
    ("image", {(WORKER, "amp_image_tag"): None}, {}, WRONG, "amp_image_tag is not set", "image set --tag amphora"),
    ("image", {}, {"images": []}, WRONG, "no image", "openstack image set --tag amphora IMAGE"),
    ("image", {}, {"images": [image(owner="x")]}, WRONG, "belong to x", "image set --project service-id"),
    ("image", {}, {"images": [image(status="queued")]}, WRONG, "i1 is queued", "openstack image show i1"),
    ("image", {}, {"images": [IMAGE, image(id="i2")]}, WARNING, "2 images", "image unset --tag amphora i2"),
    ("image", NO_OWNER, {}, WARNING, "any project", "amp_image_owner_id = service-id"),
    (
        "image",
        {},
        {"images": [image(created=datetime.now(UTC) - timedelta(days=200))]},
        WARNING,
        "200 days",
        "make image",
    ),
    ("image", {}, {"images": Unknown("Glance is away")}, UNKNOWN, "Glance is away", ""),
    # -- flavor
    ("flavor", {(WORKER, "amp_flavor_id"): None}, {}, WRONG, "is not set", "openstack flavor list"),
    ("flavor", {}, {"flavor": None}, WRONG, "no flavor 200", "openstack flavor list --all"),
    ("flavor", {}, {"flavor": Flavor(name="f", disk=1, ram=1024, vcpus=1)}, WRONG, "1 GiB disk", "flavor create"),
    ("flavor", {}, {"flavor": Flavor(name="f", disk=4, ram=256, vcpus=1)}, WRONG, "256 MiB RAM", "flavor create"),
    ("flavor", {}, {"flavor": Flavor(name="f", disk=0, ram=512, vcpus=1)}, OK, "0 GiB disk", ""),
    (
        "flavor",
        {},
        {"images": [image(min_disk=0, virtual_size=5 * 1024**3)]},
        WRONG,
        "the image unpacks to 5.0",
        "flavor create",
    ),
    ("flavor", {}, {"images": Unknown("Glance is away")}, OK, "is not known", ""),
    # -- key pair
    ("key-pair", {(WORKER, "amp_ssh_key_name"): "k"}, {"key_pair": False}, WRONG, "no key pair k", "keypair create"),
    ("key-pair", {(WORKER, "amp_ssh_key_name"): "k"}, {}, OK, "key pair k", ""),
    # -- hosts
    ("compute-hosts", {}, {"hosts": []}, WRONG, "no compute host", "compute service list"),
    ("compute-hosts", PAIR, {"hosts": ["a"]}, WRONG, "one compute host", "soft-anti-affinity"),
    ("compute-hosts", PAIR, {"hosts": ["a", "b"]}, WARNING, "two compute hosts", "soft-anti-affinity"),
    (
        "compute-hosts",
        {**PAIR, (NOVA, "anti_affinity_policy"): "soft-anti-affinity"},
        {"hosts": ["a"]},
        OK,
        "1 compute hosts",
        "",
    ),
    (
        "compute-hosts",
        {**PAIR, (NOVA, "enable_anti_affinity"): False},
        {},
        WARNING,
        "may be on one host",
        "enable_anti_affinity = true",
    ),
    # -- quotas
    (
        "quotas",
        {},
        {
            "quotas": dict.fromkeys(("instances", "cores", "ram", "ports", "security groups"), PLENTY)
            | {"cores": Room(limit=20, used=20)}
        },
        WRONG,
        "room for 0 more load balancers: cores 20 of 20",
        "openstack quota set --force --cores -1 service-id",
    ),
    (
        "quotas",
        PAIR,
        {
            "quotas": dict.fromkeys(("instances", "cores", "ram", "ports", "security groups"), PLENTY)
            | {"server groups": Room(limit=10, used=6)}
        },
        WARNING,
        "room for 4 more",
        "--server-groups -1",
    ),
    # -- networks
    (
        "boot-networks",
        {(WORKER, "amp_boot_network_list"): []},
        {"networks": {}},
        WRONG,
        "0 networks have the name lb-mgmt-net",
        "openstack network list",
    ),
    ("boot-networks", {(WORKER, "amp_boot_network_list"): []}, {}, WARNING, "which is taken", "openstack network list"),
    ("boot-networks", {}, {"networks": {"n": None}}, WRONG, "names n, which does not exist", "openstack network list"),
    ("boot-networks", {}, {"networks": network()}, WRONG, "has no subnet", "openstack subnet create --network"),
    ("boot-networks", {}, {"networks": network(1200, "172.16.0.0/22")}, WARNING, "MTU of 1200", "network set --mtu"),
    # -- security groups
    ("amphora-security-groups", {(WORKER, "amp_secgroup_list"): []}, {}, WRONG, "is empty", "security group create"),
    (
        "amphora-security-groups",
        {("haproxy_amphora", "bind_port"): 9444},
        {"groups": group(rule("tcp", 9444, 9444))},
        WARNING,
        "the image that make image makes listens on 9443 alone",
        "remove bind_port",
    ),
    ("amphora-security-groups", {}, {"groups": {"g": None}}, WRONG, "names g, which", "security group list"),
    (
        "amphora-security-groups",
        {},
        {"groups": group()},
        WRONG,
        "TCP 9443 from the controller 172.16.0.2",
        f"rule create --protocol tcp --dst-port 9443 --remote-ip 172.16.0.0/22 {AMPHORA_GROUP.id}",
    ),
    ("amphora-security-groups", {}, {"groups": group(rule("udp", 9443, 9443))}, WRONG, "TCP 9443", "tcp"),
    ("amphora-security-groups", {}, {"groups": group(rule("tcp", 9443, 9443, family=6))}, WRONG, "TCP 9443", "tcp"),
    ("amphora-security-groups", {}, {"groups": group(rule("tcp", 1, 9442))}, WRONG, "TCP 9443", "tcp"),
    (
        "amphora-security-groups",
        {},
        {"groups": group(rule("tcp", 9443, 9443, remote="10.0.0.0/8"))},
        WRONG,
        "9443",
        "tcp",
    ),
    ("amphora-security-groups", {}, {"groups": group(rule("tcp", 9443, 9443, remote_group="x"))}, WRONG, "9443", "tcp"),
    (
        "amphora-security-groups",
        {},
        {"groups": group(rule("tcp", 9443, 9443, remote_group=LEG_GROUP.id))},
        OK,
        "let in TCP 9443",
        "",
    ),
    (
        "amphora-security-groups",
        {(HEALTH, "controller_ip_port_list"): ["172.16.0.2:5555", "172.20.0.3:5555"]},
        {},
        WRONG,
        "from the controller 172.20.0.3",
        "--remote-ip 172.20.0.3/32",
    ),
    (
        "amphora-security-groups",
        {},
        {"groups": group(rule(None, None, None))},
        WARNING,
        "lets in TCP 22",
        "security group rule delete",
    ),
    # -- leg
    (
        "controller-leg",
        {},
        {"interfaces": interfaces("172.16.0.2/22", up=False)},
        WRONG,
        "is down",
        "ip link set o-hm0 up",
    ),
    ("controller-leg", {}, {"interfaces": interfaces("172.16.0.2/22", "eth1")}, WARNING, "by eth1", "= eth1"),
    (
        "controller-leg",
        {},
        {"interfaces": interfaces("10.0.0.5/24", "eth0")},
        WRONG,
        "there is no interface o-hm0",
        "port create",
    ),
    ("controller-leg", {}, {"interfaces": interfaces("10.0.0.5/24")}, WRONG, "o-hm0 has no address", "port create"),
    (
        "controller-leg",
        {(HEALTH, "bind_ip"): "10.0.0.5"},
        {"interfaces": interfaces("10.0.0.5/24", "eth0")},
        WARNING,
        "a router has to join",
        "ip route get",
    ),
    ("controller-leg", {}, {"interfaces": Unknown("no ip command")}, UNKNOWN, "no ip command", ""),
    # -- heartbeats' addresses
    (
        "heartbeat-addresses",
        {(HEALTH, "bind_ip"): "127.0.0.1"},
        {},
        WRONG,
        "which no amphora reaches",
        "bind_ip = 172.16.0.2",
    ),
    (
        "heartbeat-addresses",
        {(HEALTH, "bind_ip"): "172.16.0.9"},
        {},
        WRONG,
        "no address of this host",
        "bind_ip = 172.16.0.2",
    ),
    ("heartbeat-addresses", {(HEALTH, "bind_ip"): "0.0.0.0"}, {}, OK, "172.16.0.2:5555", ""),
    ("heartbeat-addresses", {(HEALTH, "controller_ip_port_list"): []}, {}, WRONG, "is empty", "= 172.16.0.2:5555"),
    (
        "heartbeat-addresses",
        {(HEALTH, "controller_ip_port_list"): ["lb:5555"]},
        {},
        WRONG,
        "no address:port",
        "172.16.0.2:5555",
    ),
    (
        "heartbeat-addresses",
        {(HEALTH, "controller_ip_port_list"): ["127.0.0.1:5555"]},
        {},
        WRONG,
        "own loopback",
        "172.16.0.2",
    ),
    (
        "heartbeat-addresses",
        {(HEALTH, "controller_ip_port_list"): ["172.16.0.3:5555"]},
        {},
        WRONG,
        "hears no amphora",
        "172.16.0.2",
    ),
    (
        "heartbeat-addresses",
        {(HEALTH, "controller_ip_port_list"): ["172.16.0.2:5556"]},
        {},
        WRONG,
        "send to 5556",
        "172.16.0.2",
    ),
    (
        "heartbeat-addresses",
        {(HEALTH, "controller_ip_port_list"): ["172.16.0.2:5555", "10.0.0.9:5555"]},
        {},
        WARNING,
        "10.0.0.9:5555",
        "172.16.0.2",
    ),
    # -- the leg's group
    (
        "heartbeat-security-group",
        {},
        {"leg_ports": [dataclasses.replace(LEG, groups=[AMPHORA_GROUP])]},
        WRONG,
        "lets in UDP 5555",
        f"--protocol udp --dst-port 5555 --remote-ip 172.16.0.0/22 {AMPHORA_GROUP.id}",
    ),
    (
        "heartbeat-security-group",
        {},
        {"leg_ports": [dataclasses.replace(LEG, groups=None)]},
        OK,
        "lets in UDP 5555",
        "",
    ),
    ("heartbeat-security-group", {}, {"leg_ports": []}, OK, "no port of Neutron's", ""),
    (
        "heartbeat-security-group",
        {},
        {"leg_ports": [dataclasses.replace(LEG, status="DOWN")]},
        WARNING,
        "DOWN",
        "agent list",
    ),
    # -- control
    ("database", {}, {"database": Unknown("refused")}, WRONG, "refused", "connection"),
    (
        "database",
        {},
        {"database": DatabaseSeen(revision=None, needed="0004", clock=0)},
        WRONG,
        "has no tables",
        "tavia db upgrade",
    ),
    (
        "database",
        {},
        {"database": DatabaseSeen(revision="0001", needed="0004", clock=0)},
        WRONG,
        "0001",
        "tavia db upgrade",
    ),
    ("database", {("database", "connection"): None}, {}, WRONG, "is not set", "mysql+pymysql"),
    ("database", {("database", "connection"): "sqlite:////x"}, {}, WARNING, "a file of this host", "mysql+pymysql"),
    ("database-clock", {}, {"database": DatabaseSeen(revision="1", needed="1", clock=3)}, WARNING, "+3.0 s", "chrony"),
    ("database-clock", {}, {"database": Unknown("refused")}, UNKNOWN, "refused", ""),
    ("rabbitmq", {}, {"rabbit": {"a:5672": "refused"}}, WRONG, "a:5672 cannot be used: refused", "transport_url"),
    ("rabbitmq", {}, {"rabbit": {"a:5672": "refused", "b:5672": None}}, WARNING, "a:5672", "transport_url"),
    ("rabbitmq", {}, {"rabbit": {"a:5672": None}}, OK, "a:5672", ""),
    ("keystone", {}, {"login": Unknown("wrong password")}, WRONG, "wrong password", "token issue"),
    (
        "keystone",
        {},
        {"login": dataclasses.replace(LOGIN, roles=("member",))},
        WRONG,
        "has the roles member",
        "openstack role add --user octavia --project service admin",
    ),
    (
        "token-checks",
        {},
        {"token_checks": dataclasses.replace(LOGIN, roles=("admin",))},
        WRONG,
        "lacks the role service",
        "openstack role add --user octavia --project service service",
    ),
    ("token-checks", {}, {"token_checks": Unknown("401")}, WRONG, "401", "[keystone_authtoken]"),
    ("keystone-clock", {}, {"clock": -70.0}, WARNING, "-70 s", "chrony"),
    ("keystone-clock", {}, {"clock": 4.0}, OK, "", ""),
    (
        "cloud-services",
        {},
        {"services": {"nova": "Nova is down", "glance": None}},
        WRONG,
        "Nova is down",
        "catalog list",
    ),
    (
        "api-endpoint",
        {},
        {"login": dataclasses.replace(LOGIN, endpoints={})},
        WRONG,
        "no public endpoint",
        "openstack endpoint create --region RegionOne octavia public http://10.0.0.5:9876",
    ),
]


@pytest.mark.parametrize(("check", "options", "changed", "status", "message", "advice"), CASES)
def test_it_says_what_is_wrong_and_what_to_type(
    examine: Examine,
    check: str,
    options: dict[tuple[str, str], Any],
    changed: dict[str, Any],
    status: Status,
    message: str,
    advice: str,
) -> None:
    found = examine(check, options, **changed)
    worst = [finding for finding in found if finding.status is status]
    assert worst, found
    assert any(message in finding.message and advice in finding.advice for finding in worst), found
    assert all(bool(finding.advice) == (finding.status in (WARNING, WRONG)) for finding in found), found
    if status in (OK, WARNING):
        assert WRONG not in {finding.status for finding in found}, found


def test_every_check_that_can_fail_has_a_case_that_fails() -> None:
    of_the_cloud = {check.code for check in checks.CHECKS if check.on_openstack} - {"encryption"}
    assert of_the_cloud <= {check for check, _, _, status, _, _ in CASES if status is not OK}


def test_what_is_not_on_openstack_is_not_asked_about_the_cloud(facts: Facts) -> None:
    found = {finding.check for finding in checks.examine(facts, on_openstack=False)}
    assert found.isdisjoint({check.code for check in checks.CHECKS if check.on_openstack})
