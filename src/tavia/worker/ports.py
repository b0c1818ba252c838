"""The steps of networking: an amphora's ports, its members' subnets, the VIP's port and who may reach it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network

from tavia.cloud.protocols import AddressRefused, Cloud, NotFound, Port, PortSpec
from tavia.model.member_ports import MemberPort, as_column, filled, member_ports
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.tree import Tree
from tavia.worker.boot_options import BootOptions
from tavia.worker.plan import Facts, Kind, Step
from tavia.worker.records import Changed, Record, VipChanged
from tavia.worker.security import group_name, rules_hash, security_rules


class Ports:
    """See :mod:`tavia.worker.steps`: each method makes sure of one thing and returns what is to be recorded."""

    def __init__(self, cloud: Cloud, options: Callable[[], BootOptions]) -> None:
        self._compute = cloud.compute
        self._networking = cloud.networking
        self._options = options

    # the VIP

    def secure_vip(self, tree: Tree, _step: Step, facts: Facts) -> Record:
        """The VIP's port is there, and its security group lets in what listeners want."""
        loadbalancer = tree.loadbalancer
        rules = security_rules(tree.intended(), peers_only=self._options().peers_only)
        tags = self._options().loadbalancer_tags(loadbalancer.id)
        port_id = self._vip_port(loadbalancer)
        group_id = self._networking.ensure_security_group(group_name(loadbalancer.id), tags, rules)
        if (loadbalancer.security_group_id, loadbalancer.vip_port_id) != (group_id, port_id):
            self._networking.add_security_group(port_id, group_id)
            for amphora in tree.amphorae:
                with suppress(NotFound):  # a lost port is its amphora's trouble
                    if amphora.vrrp_port_id:
                        self._networking.add_security_group(amphora.vrrp_port_id, group_id)
        facts.vip_secured = True
        known = {"vip_port_id": port_id, "security_group_id": group_id, "security_hash": rules_hash(rules)}
        if all(getattr(loadbalancer, name) == value for name, value in known.items()):
            return None
        return VipChanged(loadbalancer, known)

    def _vip_port(self, loadbalancer: LoadBalancer) -> str:
        """The id of the VIP's port; one of ours that someone deleted is made again. Raises SeamError vip-port-gone."""
        try:
            return self._networking.port(loadbalancer.vip_port_id or "").id
        except NotFound:
            if not loadbalancer.vip_port_ours:
                advice = "it was not ours: delete the load balancer and create it anew, on another port"
                raise _vip_port_gone(loadbalancer, advice) from None
        tags = self._options().loadbalancer_tags(loadbalancer.id)
        for port in self._networking.ports(tags):
            if any(fixed.ip_address == loadbalancer.vip_address for fixed in port.fixed_ips):
                return port.id
        try:
            port = self._networking.create_port(
                PortSpec(
                    name=f"octavia-lb-{loadbalancer.id}",
                    network_id=loadbalancer.vip_network_id or "",
                    fixed_ips=[
                        (loadbalancer.vip_subnet_id or "", loadbalancer.vip_address),
                        *((vip["subnet_id"], vip["ip_address"]) for vip in loadbalancer.additional_vips),
                    ],
                    device_id=f"lb-{loadbalancer.id}",
                    tags=tags,
                    project_id=loadbalancer.project_id,
                    is_vip=True,
                )
            )
        except (AddressRefused, NotFound) as refusal:
            advice = f"it cannot be made again ({refusal.message}): free its address, or delete the load balancer"
            raise _vip_port_gone(loadbalancer, advice) from refusal
        return port.id

    def release_vip(self, tree: Tree, _step: Step, facts: Facts) -> Record:
        """Nothing of ours is left at the VIP: a port that was not ours loses our group only."""
        loadbalancer = tree.loadbalancer
        port_id = loadbalancer.vip_port_id or ""
        tags = self._options().loadbalancer_tags(loadbalancer.id)
        if loadbalancer.vip_port_ours:
            self._networking.delete_port(port_id)
            for port in self._networking.ports(tags):
                self._networking.delete_port(port.id)
        # By its name: a worker that died may have given the port a group that no row names.
        users = None if loadbalancer.vip_port_ours else port_id
        self._networking.delete_security_group(group_name(loadbalancer.id), tags, users)
        if len(loadbalancer.topology.roles) > 1:
            self._compute.delete_server_group(server_group_name(loadbalancer.id))
        facts.vip_released = True
        return None

    # an amphora's own ports

    def make_ports(self, tree: Tree, step: Step, facts: Facts) -> Record:
        """All that the server is to boot with. A member's subnet that cannot be had is left for later."""
        amphora, loadbalancer = amphora_of(tree, step), tree.loadbalancer
        if loadbalancer.vip_network_id is None or loadbalancer.vip_subnet_id is None:
            raise SeamError(Seam.CONTROL, "no-vip-subnet", "the load balancer's VIP has no subnet", permanent=True)
        existing = {port.name: port for port in self._networking.ports(self._options().tags(amphora))}
        mgmt, *_others = [
            self._boot_port(existing, amphora, "mgmt" if number == 0 else f"boot{number}", network_id)
            for number, network_id in enumerate(self._boot_network_ids())
        ]
        vrrp = self._vrrp_port(existing, amphora, loadbalancer)
        ports = member_ports(amphora)
        for port in ports:
            try:
                ports = filled(ports, self._member_port(existing, amphora, port))
            except SeamError as failure:
                facts.undone[Step(Kind.PLUG_PORT, amphora.id, port.subnet_id)] = _unplugged(amphora, port, failure)
        address_on = {fixed.subnet_id: fixed.ip_address for fixed in vrrp.fixed_ips}
        additional = [vip["subnet_id"] for vip in loadbalancer.additional_vips]
        return Changed(
            amphora,
            {
                "mgmt_port_id": mgmt.id,
                "mgmt_subnet_id": mgmt.fixed_ips[0].subnet_id,
                "lb_network_ip": mgmt.fixed_ips[0].ip_address,
                "vrrp_port_id": vrrp.id,
                "vrrp_ip": address_on[loadbalancer.vip_subnet_id],
                "vrrp_mac": vrrp.mac_address,
                "additional_ips": [{"subnet_id": each, "ip_address": address_on[each]} for each in additional],
                "member_ports": as_column(ports),
            },
        )

    def _boot_port(self, existing: Mapping[str, Port], amphora: Amphora, purpose: str, network_id: str) -> Port:
        name = f"octavia-lb-{purpose}-{amphora.id}"
        if name in existing:
            return existing[name]
        subnet_ids = self._networking.network(network_id).subnet_ids
        if not subnet_ids:
            message = f"network {network_id} of [controller_worker] amp_boot_network_list has no subnet: give it one"
            raise SeamError(Seam.CONTROL, "no-boot-subnet", message, permanent=True)
        return self._networking.create_port(
            PortSpec(
                name=name,
                network_id=network_id,
                fixed_ips=[(subnet_ids[0], None)],
                tags=self._options().tags(amphora),
                security_group_ids=self._options().security_group_ids if purpose == "mgmt" else (),
            )
        )

    def _boot_network_ids(self) -> tuple[str, ...]:
        if self._options().boot_network_ids:
            return self._options().boot_network_ids
        named = [network.id for network in self._networking.networks() if network.name == "lb-mgmt-net"]
        if len(named) == 1:
            return (named[0],)
        raise SeamError(
            Seam.CONTROL,
            "no-boot-network",
            f"[controller_worker] amp_boot_network_list is empty and {len(named)} networks are named lb-mgmt-net",
            permanent=True,
        )

    def _vrrp_port(self, existing: Mapping[str, Port], amphora: Amphora, loadbalancer: LoadBalancer) -> Port:
        """In the VIP's network, with an address on each of the VIPs' subnets; it may send from the VIPs too."""
        name = f"octavia-lb-vrrp-{amphora.id}"
        vips = [
            (loadbalancer.vip_subnet_id or "", loadbalancer.vip_address or ""),
            *((vip["subnet_id"], vip["ip_address"]) for vip in loadbalancer.additional_vips),
        ]
        return existing.get(name) or self._networking.create_port(
            PortSpec(
                name=name,
                network_id=loadbalancer.vip_network_id or "",
                fixed_ips=[(subnet_id, None) for subnet_id, _ in vips],
                tags=self._options().tags(amphora),
                allowed_addresses=frozenset(address for _, address in vips),
                security_group_ids=[loadbalancer.security_group_id] if loadbalancer.security_group_id else [],
            )
        )

    def set_qos_policy(self, tree: Tree, step: Step, _facts: Facts) -> Record:
        """The VIP-side port has the load balancer's QoS policy, or none."""
        amphora, policy_id = amphora_of(tree, step), tree.loadbalancer.vip_qos_policy_id
        self._networking.set_qos_policy(amphora.vrrp_port_id or "", policy_id)
        return Changed(amphora, {"qos_policy_id": policy_id})

    # members' subnets

    def plug(self, tree: Tree, step: Step, _facts: Facts) -> Record:
        """The amphora has a port on the subnet. Its row names it already."""
        amphora = amphora_of(tree, step)
        ports = member_ports(amphora)
        wanted = next(port for port in ports if port.subnet_id == step.subnet_id)
        existing = {port.name: port for port in self._networking.ports(self._options().tags(amphora))}
        try:
            made = self._member_port(existing, amphora, wanted)
            self._compute.attach_port(amphora.compute_id or "", made.port_id or "")
        except SeamError as failure:
            raise _unplugged(amphora, wanted, failure) from failure
        return Changed(amphora, {"member_ports": as_column(filled(ports, made))})

    def unplug(self, tree: Tree, step: Step, _facts: Facts) -> Record:
        """The amphora has no port on the subnet any more."""
        amphora = amphora_of(tree, step)
        name = _member_port_name(amphora, step.subnet_id)
        for port in self._networking.ports(self._options().tags(amphora)):
            if port.name == name:
                self._compute.detach_port(amphora.compute_id or "", port.id)
                self._networking.delete_port(port.id)
        left = (port for port in member_ports(amphora) if port.subnet_id != step.subnet_id)
        return Changed(amphora, {"member_ports": as_column(left)})

    def _member_port(self, existing: Mapping[str, Port], amphora: Amphora, wanted: MemberPort) -> MemberPort:
        subnet = self._networking.subnet(wanted.subnet_id)
        network = self._networking.network(subnet.network_id)
        name = _member_port_name(amphora, wanted.subnet_id)
        port = existing.get(name) or self._networking.create_port(
            PortSpec(
                name=name,
                network_id=network.id,
                fixed_ips=[(subnet.id, None)],
                tags=self._options().tags(amphora),
            )
        )
        return replace(
            wanted,
            port_id=port.id,
            mac=port.mac_address,
            address=f"{port.fixed_ips[0].ip_address}/{ip_network(subnet.cidr).prefixlen}",
            mtu=network.mtu,
            routes=subnet.host_routes,
        )


def amphora_of(tree: Tree, step: Step) -> Amphora:
    """The amphora that a step is about."""
    return next(a for a in tree.amphorae if a.id == step.subject)


def plug_again(amphora: Amphora, failure: SeamError, facts: Facts) -> Record:
    """Ports on members' subnets that the agent does not see are to be plugged in again: somebody may have taken them.

    Where that was tried, the amphora serves without them. None where the agent misses no such port.
    """
    old = member_ports(amphora)
    lost = [
        port for port in old if failure.code == "interface-missing" and port.port_id and port.mac in failure.message
    ]
    for port in lost:
        plug = Step(Kind.PLUG_PORT, amphora.id, port.subnet_id)
        if plug in facts.plugged_again:
            facts.undone[plug] = _unplugged(amphora, port, failure)
        facts.plugged_again.add(plug)
    left = (replace(port, port_id=None) if port in lost else port for port in old)
    return Changed(amphora, {"member_ports": as_column(left)}) if lost else None


def server_group_name(loadbalancer_id: str) -> str:
    """Of the group that keeps a pair's servers apart."""
    return f"octavia-lb-{loadbalancer_id}"


def _member_port_name(amphora: Amphora, subnet_id: str) -> str:
    return f"octavia-lb-member-{amphora.id}-{subnet_id}"


def _unplugged(amphora: Amphora, port: MemberPort, failure: SeamError) -> SeamError:
    message = f"members on subnet {port.subnet_id} are not reached: amphora {amphora.id} gets no port there: "
    return SeamError(
        failure.seam, failure.code, message + failure.message, permanent=failure.permanent, detail=failure.detail
    )


def _vip_port_gone(loadbalancer: LoadBalancer, advice: str) -> SeamError:
    where = f"port {loadbalancer.vip_port_id} with the VIP {loadbalancer.vip_address}"
    return SeamError(Seam.BOOT, "vip-port-gone", f"{where} was deleted, and {advice}", permanent=True)
