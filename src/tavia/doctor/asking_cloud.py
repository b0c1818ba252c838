"""Facts of the live cloud, through the connection that the worker has. Everything only reads."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from keystoneauth1.access import AccessInfo
from openstack.exceptions import NotFoundException
from oslo_config import cfg

from tavia.cloud.openstack import connection
from tavia.cloud.openstack.networking import is_secured
from tavia.doctor.asking import found
from tavia.doctor.control import SERVICE_TYPE
from tavia.doctor.facts import Flavor, Group, Image, Interface, LegPort, Login, Network, Room, Rule, Subnet
from tavia.doctor.findings import Unknown, known
from tavia.doctor.management import MGMT_NETWORK
from tavia.model.seams import SeamError

Progress = Callable[[str], Any]
"""A context manager for what is being done, in words."""

_PROTOCOLS = {"6": "tcp", "17": "udp", "0": None, "any": None}
_FAMILIES = {"IPv4": 4, "IPv6": 6}


def logins(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """The user of [service_auth], and how far Keystone's clock is ahead."""
    try:
        access = connection.log_in(conf, "service_auth")
    except SeamError as error:
        refused, nobody = Unknown(error.whole), Unknown("Keystone gives no token, see keystone")
        return {"login": refused, "clock": nobody, "services": nobody}
    ahead = (access.issued - datetime.now(UTC)).total_seconds() if access.issued else Unknown("the token has no date")
    return {"login": _login(access, conf.nova.region_name), "clock": ahead}


def token_checks(conf: cfg.ConfigOpts) -> Login | Unknown:
    """The user of [keystone_authtoken]."""
    return found(lambda: _login(connection.log_in(conf, "keystone_authtoken"), None))


def _login(access: AccessInfo, region: str | None) -> Login:
    catalog = access.service_catalog.get_endpoints_data(service_type=SERVICE_TYPE, region_name=region)
    endpoints = {str(data.interface): str(data.url) for data in catalog.get(SERVICE_TYPE, [])}
    return Login(
        user=str(access.username),
        project_id=str(access.project_id),
        project=str(access.project_name),
        roles=tuple(access.role_names or ()),
        endpoints=endpoints,
    )


def everything(
    conf: cfg.ConfigOpts, login: Login, interfaces: Sequence[Interface] | Unknown, progress: Progress
) -> dict[str, Any]:
    """All facts that need a token, by their names in Facts. One service after the other, to the end."""
    answers: dict[str, str | None] = {}
    facts: dict[str, Any] = {}
    for name, ask in {"glance": _of_glance, "nova": _of_nova, "neutron": _of_neutron}.items():
        with progress(f"asking {name.capitalize()}"):
            answer = found(lambda name=name: _answers(conf, name))  # type: ignore[misc]
            answers[name] = str(answer) if isinstance(answer, Unknown) else None
            facts |= ask(conf, login, interfaces) if answers[name] is None else _silent(name)
    quotas = facts.pop("network_quotas"), facts.pop("compute_quotas")
    unknown = next((quota for quota in quotas if isinstance(quota, Unknown)), None)
    return facts | {"services": answers, "quotas": unknown or quotas[0] | quotas[1]}


_FACTS_OF = {
    "glance": ("images",),
    "nova": ("flavor", "key_pair", "hosts", "compute_quotas"),
    "neutron": ("networks", "groups", "leg_ports", "network_quotas"),
}


def _silent(name: str) -> dict[str, Any]:
    return dict.fromkeys(_FACTS_OF[name], Unknown(f"{name.capitalize()} does not answer, see cloud-services"))


def _answers(conf: cfg.ConfigOpts, name: str) -> None:
    with connection.service(conf, name).asked() as proxy:
        lists = {"glance": "images", "nova": "flavors", "neutron": "networks"}
        next(iter(getattr(proxy, lists[name])(limit=1)), None)


def _of_glance(conf: cfg.ConfigOpts, _login: Login, _interfaces: object) -> dict[str, Any]:
    def images() -> list[Image]:
        with connection.service(conf, "glance").asked() as glance:
            return [_image(image) for image in glance.images(tag=conf.controller_worker.amp_image_tag)]

    return {"images": found(images)}


def _image(image: Any) -> Image:
    return Image(
        id=image.id,
        name=image.name,
        status=image.status,
        owner=image.owner_id,
        created=datetime.fromisoformat(image.created_at),
        min_disk=image.min_disk or 0,
        min_ram=image.min_ram or 0,
        virtual_size=image.virtual_size,
    )


def _of_nova(conf: cfg.ConfigOpts, login: Login, _interfaces: object) -> dict[str, Any]:
    worker, service = conf.controller_worker, connection.service(conf, "nova")

    def flavor() -> Flavor | None:
        with service.asked() as nova:
            there = _or_none(nova.get_flavor, worker.amp_flavor_id)
        return there and Flavor(name=there.name, disk=there.disk, ram=there.ram, vcpus=there.vcpus)

    def key_pair() -> bool:
        with service.asked() as nova:
            return _or_none(nova.get_keypair, worker.amp_ssh_key_name) is not None

    def hosts() -> list[str]:
        with service.asked() as nova:
            there = nova.services(binary="nova-compute")
            return [host.host for host in there if host.state == "up" and host.status == "enabled"]

    def quotas() -> dict[str, Room]:
        with service.asked() as nova:
            quota = nova.get_quota_set(login.project_id, usage=True)
        names = {"instances": "instances", "cores": "cores", "ram": "ram", "server groups": "server_groups"}
        return {shown: Room(limit=quota[name], used=quota.usage[name]) for shown, name in names.items()}

    asked: dict[str, Callable[[], Any]] = {"hosts": hosts, "compute_quotas": quotas}
    asked |= {"flavor": flavor} if worker.amp_flavor_id else {}
    asked |= {"key_pair": key_pair} if worker.amp_ssh_key_name else {}
    return {name: found(ask) for name, ask in asked.items()}


def _of_neutron(conf: cfg.ConfigOpts, login: Login, interfaces: Sequence[Interface] | Unknown) -> dict[str, Any]:
    worker, service = conf.controller_worker, connection.service(conf, "neutron")

    def networks() -> dict[str, Network | None]:
        with service.asked() as neutron:
            named = worker.amp_boot_network_list or [one.id for one in neutron.networks(name=MGMT_NETWORK)]
            return {name: _network(neutron, name) for name in named}

    def groups() -> dict[str, Group | None]:
        with service.asked() as neutron:
            return {name: _group(neutron, name) for name in worker.amp_secgroup_list}

    def leg_ports() -> list[LegPort]:
        if isinstance(interfaces, Unknown):
            raise interfaces
        with service.asked() as neutron:
            return list(_leg_ports(neutron, list(known(boot_networks))[:1], interfaces))

    def quotas() -> dict[str, Room]:
        with service.asked() as neutron:
            quota = neutron.get_quota(login.project_id, details=True)
        names = {"ports": "ports", "security groups": "security_groups"}
        return {shown: Room(limit=quota[name]["limit"], used=quota[name]["used"]) for shown, name in names.items()}

    boot_networks = found(networks)
    asked: dict[str, Callable[[], Any]] = {"groups": groups, "leg_ports": leg_ports, "network_quotas": quotas}
    return {"networks": boot_networks, **{name: found(ask) for name, ask in asked.items()}}


def _network(neutron: Any, name: str) -> Network | None:
    network = _or_none(neutron.get_network, name)
    if network is None:
        return None
    subnets = [Subnet(id=subnet.id, cidr=subnet.cidr) for subnet in neutron.subnets(network_id=network.id)]
    return Network(id=network.id, name=network.name, mtu=network.mtu, subnets=subnets)


def _group(neutron: Any, group_id: str) -> Group | None:
    group = _or_none(neutron.get_security_group, group_id)
    return group and Group(id=group.id, name=group.name, rules=list(_rules(group.security_group_rules)))


def _rules(rules: Sequence[Mapping[str, Any]]) -> Iterator[Rule]:
    """Those for what comes in. An address group counts as everybody: who is in it is its owner's affair."""
    for rule in rules:
        if rule["direction"] == "ingress":
            protocol = rule["protocol"]
            yield Rule(
                family=_FAMILIES[rule["ethertype"]],
                protocol=_PROTOCOLS.get(str(protocol), protocol),
                first_port=rule["port_range_min"],
                last_port=rule["port_range_max"],
                remote=rule["remote_ip_prefix"],
                remote_group=rule["remote_group_id"],
            )


def _leg_ports(neutron: Any, networks: Sequence[str], interfaces: Sequence[Interface]) -> Iterator[LegPort]:
    """Neutron's ports with an address of ours on the management network."""
    for network_id in networks:
        subnets = [ipaddress.ip_network(subnet.cidr) for subnet in neutron.subnets(network_id=network_id)]
        for address in (address.ip for interface in interfaces for address in interface.addresses):
            if any(address in subnet for subnet in subnets):
                for port in neutron.ports(network_id=network_id, fixed_ips=f"ip_address={address}"):
                    groups = [_group(neutron, group_id) for group_id in port.security_group_ids]
                    yield LegPort(
                        id=port.id,
                        address=str(address),
                        status=port.status,
                        groups=[group for group in groups if group] if is_secured(port) else None,
                    )


def _or_none(get: Callable[[str], Any], name: str) -> Any:
    try:
        return get(name)
    except NotFoundException:
        return None
