"""Rules about the management network: TCP 9443 from controllers to amphorae, UDP 5555 the other way. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from tavia.doctor.facts import Address, Facts, Group, Interface, Network, Rule, Subnet
from tavia.doctor.findings import Said, Unknown, good, known, warning, wrong

SMALLEST_MTU = 1280
SSH = 22
IMAGES_PORT = 9443
"""On which the agent listens in the image of ours, whose firewall lets in nothing else."""
MGMT_NETWORK = "lb-mgmt-net"
"""The worker takes the network of this name where the configuration names none."""
GUIDE = "docs/install-openstack.md, The controller's leg"


def networks(facts: Facts) -> Iterator[Said]:
    """Those that amphorae boot on."""
    there = known(facts.networks)
    if not facts.conf.controller_worker.amp_boot_network_list:
        advice = "openstack network list; then set [controller_worker] amp_boot_network_list to the id of its network"
        named = f"{len(there)} networks have the name {MGMT_NETWORK}"
        empty = f"[controller_worker] amp_boot_network_list is empty, and {named}"
        yield (warning(f"{empty}, which is taken", advice) if len(there) == 1 else wrong(empty, advice))
    for name, network in there.items():
        if network is None:
            yield wrong(
                f"[controller_worker] amp_boot_network_list names {name}, which does not exist",
                "openstack network list",
            )
        elif not network.subnets:
            advice = f"openstack subnet create --network {network.id} --subnet-range 172.16.0.0/22 lb-mgmt-subnet"
            yield wrong(f"network {network.name} has no subnet", advice)
        elif network.mtu < SMALLEST_MTU:
            yield warning(
                f"network {network.name} has an MTU of {network.mtu}: IPv6 needs {SMALLEST_MTU}",
                f"openstack network set --mtu 1450 {network.id}, if what carries it allows",
            )
        else:
            ranges = ", ".join(subnet.cidr for subnet in network.subnets)
            yield good(f"amphorae boot on {network.name}, {ranges}, MTU {network.mtu}")


def amphora_groups(facts: Facts) -> Iterator[Said]:
    """What an amphora's management port lets in."""
    named, port = facts.conf.controller_worker.amp_secgroup_list, facts.conf.haproxy_amphora.bind_port
    if port != IMAGES_PORT:
        yield warning(
            f"[haproxy_amphora] bind_port is {port}: the image that make image makes listens on {IMAGES_PORT} alone",
            "remove bind_port, unless the image is another",
        )
    if not named:
        yield wrong(
            "[controller_worker] amp_secgroup_list is empty: amphorae get the default group, and no controller in",
            "openstack security group create lb-mgmt-sec-grp; then set amp_secgroup_list to its id",
        )
        return
    found = known(facts.groups)
    missing = [name for name, group in found.items() if group is None]
    for name in missing:
        advice = "openstack security group list; then set [controller_worker] amp_secgroup_list to ids"
        yield wrong(f"[controller_worker] amp_secgroup_list names {name}, which does not exist", advice)
    if missing:
        return
    groups = [group for group in found.values() if group is not None]
    yield from _lets_controllers_in(facts, groups, port)
    for group in groups:
        if _opens_ssh(group):
            advice = f"openstack security group rule list {group.id}; openstack security group rule delete RULE"
            yield warning(f"security group {group.name} lets in TCP {SSH}: amphorae need no login", advice)


def _lets_controllers_in(facts: Facts, groups: Sequence[Group], port: int) -> Iterator[Said]:
    legs = {f"port {leg.id}": leg for leg in facts.leg_ports} if not isinstance(facts.leg_ports, Unknown) else {}
    of_leg = {leg.address: [group.id for group in leg.groups or ()] for leg in legs.values()}
    controllers = [address for address, _ in _controllers(facts) if isinstance(address, Address)]
    for address in controllers or [ipaddress.ip_address(address) for address in of_leg]:
        if not _lets_in(groups, "tcp", port, address, of_leg.get(str(address), ())):
            yield wrong(
                f"no group of [controller_worker] amp_secgroup_list lets in TCP {port} from the controller {address}: "
                "amphorae boot and cannot be reached",
                f"openstack security group rule create --protocol tcp --dst-port {port} {_ethertype(address)}"
                f"--remote-ip {_range_of(facts, address)} {groups[0].id}",
            )
            return
    yield good(f"amphorae let in TCP {port} from the controllers")


def leg(facts: Facts) -> Iterator[Said]:
    """This host's own interface on the management network."""
    name = facts.conf.haproxy_amphora.lb_network_interface
    subnets = _subnets(facts)
    here = known(facts.interfaces)
    on_net = [(found, address) for found in here for address in found.addresses if _subnet_of(address.ip, subnets)]
    if not on_net:
        yield from _no_leg(facts, here, subnets, name)
        return
    for found, address in on_net:
        if not found.up:
            yield wrong(
                f"{found.name} with {address} is down: amphorae are not reached", f"ip link set {found.name} up"
            )
        elif found.name != name:
            yield warning(
                f"this host reaches amphorae by {found.name} ({address}); [haproxy_amphora] lb_network_interface is "
                f"{name}, which only this check reads",
                f"set [haproxy_amphora] lb_network_interface = {found.name}",
            )
        else:
            yield good(f"this host is on the management network by {found.name}, {address}")


def _no_leg(facts: Facts, here: Sequence[Interface], subnets: Sequence[Subnet], name: str) -> Iterator[Said]:
    bound = ipaddress.ip_address(facts.conf.health_manager.bind_ip)
    ranges = ", ".join(subnet.cidr for subnet in subnets)
    if not bound.is_loopback and any(address.ip == bound for found in here for address in found.addresses):
        yield warning(
            f"no address of this host is on the management network ({ranges}): a router has to join it and {bound}",
            f"ip route get an address of it; without such a router: {GUIDE}",
        )
        return
    there = next((found for found in here if found.name == name), None)
    what = f"interface {name} has no address" if there else f"there is no interface {name} with an address"
    yield wrong(
        f"{what} on the management network ({ranges}): no amphora is reached, no heartbeat arrives",
        f"openstack port create --network {next(iter(known(facts.networks)))} o-hm0; then {GUIDE}",
    )


def heartbeat_addresses(facts: Facts) -> Iterator[Said]:
    """Where amphorae send heartbeats, and where this health manager listens."""
    conf = facts.conf.health_manager
    bound = ipaddress.ip_address(conf.bind_ip)
    listed = list(_controllers(facts))
    own = _own_addresses(facts)
    mine = ", ".join(own) or "this controller's address on the management network"
    set_list = f"set [health_manager] controller_ip_port_list = {mine}:{conf.bind_port}, and all other controllers"
    said = [
        *_bound_badly(bound, own, mine),
        *(
            wrong(f"[health_manager] controller_ip_port_list has {text!r}, which is no address:port", set_list)
            for address, text in listed
            if not isinstance(address, Address)
        ),
        *_listed_badly(facts, bound, set_list),
    ]
    yield from said or [good(f"amphorae send heartbeats to {', '.join(conf.controller_ip_port_list)}, we listen there")]


def _bound_badly(bound: Address, own: Sequence[str], mine: str) -> Iterator[Said]:
    advice = f"set [health_manager] bind_ip = {mine}"
    if bound.is_loopback:
        yield wrong(f"[health_manager] bind_ip is {bound}, which no amphora reaches: all would be lost", advice)
    elif own and not bound.is_unspecified and str(bound) not in own:
        yield wrong(f"[health_manager] bind_ip {bound} is no address of this host on the management network", advice)


def _listed_badly(facts: Facts, bound: Address, set_list: str) -> Iterator[Said]:
    conf = facts.conf.health_manager
    listed = [(address, text) for address, text in _controllers(facts) if isinstance(address, Address)]
    if not conf.controller_ip_port_list:
        yield wrong("[health_manager] controller_ip_port_list is empty: amphorae send no heartbeats", set_list)
        return
    subnets = _subnets(facts) if not isinstance(facts.networks, Unknown) else ()
    for address, text in listed:
        if address.is_loopback:
            yield wrong(f"[health_manager] controller_ip_port_list has {text}, an amphora's own loopback", set_list)
        elif subnets and not _subnet_of(address, subnets):
            yield warning(
                f"{text} in [health_manager] controller_ip_port_list is not on the management network: right only "
                "where a router joins the two",
                set_list,
            )
    mine = [str(bound)] if not bound.is_unspecified else _own_addresses(facts)
    ports = {_port_of(text) for address, text in listed if str(address) in mine}
    if not ports and not bound.is_loopback:
        message = f"{bound} of this controller is not in [health_manager] controller_ip_port_list: it hears no amphora"
        yield wrong(message, set_list)
    elif ports and conf.bind_port not in ports:
        yield wrong(
            f"this health manager listens on UDP {conf.bind_port}, amphorae send to {', '.join(map(str, ports))}",
            set_list,
        )


def heartbeat_group(facts: Facts) -> Iterator[Said]:
    """What Neutron lets through to this host's leg."""
    port = facts.conf.health_manager.bind_port
    legs = known(facts.leg_ports)
    if not legs:
        yield good("this host's leg is no port of Neutron's: no security group holds heartbeats up")
        return
    for found in legs:
        subnet = _subnet_of(ipaddress.ip_address(found.address), _subnets(facts))
        sender = ipaddress.ip_network(subnet.cidr)[1] if subnet else ipaddress.ip_address(found.address)
        amphora_groups = [group.id for group in known(facts.groups).values() if group]
        if found.groups is not None and not _lets_in(found.groups, "udp", port, sender, amphora_groups):
            group = found.groups[0].id if found.groups else "GROUP"
            yield wrong(
                f"no security group of this host's port {found.id} lets in UDP {port} from amphorae: their heartbeats "
                "are lost, and they would be taken for dead",
                f"openstack security group rule create --protocol udp --dst-port {port} {_ethertype(sender)}"
                f"--remote-ip {subnet.cidr if subnet else '0.0.0.0/0'} {group}",
            )
        elif found.status != "ACTIVE":
            yield warning(
                f"this host's port {found.id} is {found.status}: the network agent has not plugged it",
                f"openstack port show {found.id}; openstack network agent list",
            )
        else:
            yield good(f"this host's port {found.id} lets in UDP {port}")


def _controllers(facts: Facts) -> Iterator[tuple[Address | None, str]]:
    """Each entry of controller_ip_port_list with its address, None for one that has none."""
    for text in facts.conf.health_manager.controller_ip_port_list:
        try:
            yield ipaddress.ip_address(text.rpartition(":")[0].strip("[]")), text
        except ValueError:
            yield None, text


def _port_of(text: str) -> int:
    port = text.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def _subnets(facts: Facts) -> list[Subnet]:
    """Of the first network, the management network. Raises Unknown."""
    first: Network | None = next(iter(known(facts.networks).values()), None)
    if first is None:
        raise Unknown("which network is the management network is not known, see boot-networks")
    return list(first.subnets)


def _subnet_of(address: Address, subnets: Iterable[Subnet]) -> Subnet | None:
    return next((subnet for subnet in subnets if address in ipaddress.ip_network(subnet.cidr)), None)


def _own_addresses(facts: Facts) -> list[str]:
    """This host's on the management network; none where that is not known."""
    if isinstance(facts.interfaces, Unknown) or isinstance(facts.networks, Unknown):
        return []
    first = next(iter(facts.networks.values()), None)
    subnets = first.subnets if first else ()
    addresses = (address.ip for found in facts.interfaces for address in found.addresses)
    return [str(address) for address in addresses if _subnet_of(address, subnets)]


def _range_of(facts: Facts, address: Address) -> str:
    subnet = _subnet_of(address, _subnets(facts)) if not isinstance(facts.networks, Unknown) else None
    return subnet.cidr if subnet else f"{address}/{address.max_prefixlen}"


def _ethertype(address: Address) -> str:
    return "--ethertype IPv6 " if address.version == 6 else ""  # noqa: PLR2004


def _lets_in(groups: Iterable[Group], protocol: str, port: int, sender: Address, of_groups: Iterable[str]) -> bool:
    """Whether one of the groups lets this in from an address whose port is in ``of_groups``."""
    members = set(of_groups)
    return any(
        rule.family == sender.version
        and rule.protocol in (None, protocol)
        and _has_port(rule, port)
        and (rule.remote is None or sender in ipaddress.ip_network(rule.remote))
        and (rule.remote_group is None or rule.remote_group in members)
        for group in groups
        for rule in group.rules
    )


def _has_port(rule: Rule, port: int) -> bool:
    return rule.first_port is None or rule.first_port <= port <= (rule.last_port or rule.first_port)


def _opens_ssh(group: Group) -> bool:
    return any(
        rule.protocol in (None, "tcp") and _has_port(rule, SSH) and rule.remote_group is None for rule in group.rules
    )
