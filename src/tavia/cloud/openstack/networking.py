"""Networks, ports and security groups: Neutron.

Neutron takes no tags when it makes a port or a group (but with an extension that few clouds have), so they come with a
second request, and a process that dies in between would leave something that no search by tags finds. So what is made
carries its tags in its description too, and every search looks there as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from keystoneauth1.plugin import BaseAuthPlugin
from openstack import exceptions

from tavia.cloud.openstack import security_groups
from tavia.cloud.openstack.connection import Service, left
from tavia.cloud.protocols import FixedIp, Network, Networking, Port, PortSpec, SecurityGroup, SecurityRule, Subnet

OWNER = "Octavia"
"""Neutron's ``device_owner`` of a port that only holds a VIP: what tools know such ports by."""

POLL = 0.5
RESERVE = 5.0
"""Seconds of a call in which nothing is tried again."""
_TOLD_OF_GROUPS = ("id", "name", "description", "tags")
TRIES = 5
"""How often a change is made again because another one came between reading and writing."""


class NeutronNetworking:
    """Implements Networking of :mod:`tavia.cloud.protocols`; failures as in :mod:`tavia.cloud.openstack.failures`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def networks(self) -> list[Network]:
        """See Networking."""
        with self._service.asked() as neutron:
            return [_network(network) for network in neutron.networks()]

    def network(self, network_id: str) -> Network:
        """See Networking."""
        with self._service.asked() as neutron:
            return _network(neutron.get_network(network_id))

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        """See Networking."""
        with self._service.asked() as neutron:
            return _subnet(neutron.get_subnet(subnet_id))

    def port(self, port_id: str) -> Port:
        """See Networking."""
        with self._service.asked() as neutron:
            return _port(neutron.get_port(port_id))

    def ports(self, tags: frozenset[str]) -> list[Port]:
        """See Networking."""
        with self._service.asked() as neutron:
            if not tags:
                return [_port(port) for port in neutron.ports()]
            tagged = list(neutron.ports(tags=_joined(tags)))
            return [_port(port) for port in (*tagged, *self._half_made(neutron, tags)) if self._is_ours(port)]

    def _is_ours(self, port: Any) -> bool:
        """Only VIPs' ports are in other projects than ours: there anybody may write what makes a port an amphora's."""
        return port.project_id == self._service.own_project or not any(
            tag.startswith("tavia-amphora=") for tag in (*(port.tags or ()), *_told_tags(port))
        )

    def _half_made(self, neutron: Any, tags: frozenset[str]) -> Iterator[Any]:
        """Ports whose tags are in their description alone: with just these tags; with one more where it is only one.

        A description is found only as a whole. So by one tag, the deployment's, what lacks it is listed of where ours
        are: our own project, and the VIPs' ports in all of them.
        """
        untagged = {"not_tags": _joined(tags)}
        if len(tags) > 1:
            yield from neutron.ports(description=_description(tags), **untagged)
            return
        seen = set()
        for where in ({"project_id": self._service.own_project}, {"device_owner": OWNER}):
            for port in neutron.ports(**where, **untagged):
                if port.id not in seen and tags <= _told_tags(port):
                    seen.add(port.id)
                    yield port

    def create_port(self, spec: PortSpec) -> Port:
        """See Networking."""
        request = _request(spec)
        with self._service.asked() as neutron:
            port = neutron.create_port(**request)
            return _port(neutron.set_tags(port, sorted(spec.tags)) if spec.tags else port)

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        """See Networking."""
        with self._service.asked() as neutron:
            neutron.update_port(port_id, allowed_address_pairs=_pairs(addresses))

    def delete_port(self, port_id: str) -> None:
        """See Networking. One that is in use by a server that goes is tried again within the call."""
        with self._service.asked() as neutron:
            while True:
                try:
                    neutron.delete_port(port_id, ignore_missing=True)
                except exceptions.ConflictException:
                    if left() < RESERVE:
                        raise
                    time.sleep(POLL)
                else:
                    return

    def ensure_security_group(self, name: str, tags: frozenset[str], rules: frozenset[SecurityRule]) -> str:
        """See Networking. Of several with the name and tags, which only a race can make, always the same one."""
        with self._service.asked() as neutron:
            group = next(iter(_groups(neutron, name, tags)), None)
            if group is None:
                group = neutron.create_security_group(name=name, description=_description(tags))
            if not tags <= set(group.tags or ()):
                neutron.set_tags(group, sorted(tags))
            group_id: str = group.id
            existing = security_groups.existing(group.security_group_rules)
            needed = security_groups.ingress(rules, group_id)
            missing = needed - set(existing.values())
            if missing:
                neutron.create_security_group_rules([rule.attributes(group_id) for rule in missing])
            for rule_id, rule in existing.items():
                if rule not in needed:
                    neutron.delete_security_group_rule(rule_id, ignore_missing=True)
        return group_id

    def security_groups(self, tags: frozenset[str]) -> list[SecurityGroup]:
        """See Networking. Without their rules, which are most of a long list."""
        with self._service.asked() as neutron:
            listed = neutron.security_groups(project_id=self._service.own_project, fields=list(_TOLD_OF_GROUPS))
            groups = [SecurityGroup(name=group.name, tags=_all_tags(group)) for group in listed]
        return [group for group in groups if tags <= group.tags]

    def delete_security_group(self, name: str, tags: frozenset[str], port_id: str | None = None) -> None:
        """See Networking. Raises SeamError (boot, security-group-in-use) while another port has it."""
        with self._service.asked() as neutron:
            for group in _groups(neutron, name, tags):
                if port_id:
                    with suppress(exceptions.NotFoundException):
                        _change_groups(neutron, port_id, removed=frozenset({group.id}))
                neutron.delete_security_group(group, ignore_missing=True)

    def add_security_group(self, port_id: str, group_id: str) -> None:
        """See Networking."""
        with self._service.asked() as neutron:
            _change_groups(neutron, port_id, added=frozenset({group_id}))

    def qos_policy_exists(self, policy_id: str) -> bool:
        """See Networking. A cloud without QoS has none."""
        with self._service.asked() as neutron:
            try:
                neutron.get_qos_policy(policy_id)
            except exceptions.NotFoundException:
                return False
        return True

    def set_qos_policy(self, port_id: str, policy_id: str | None) -> None:
        """See Networking."""
        with self._service.asked() as neutron:
            neutron.update_port(port_id, qos_policy_id=policy_id)

    def as_user(self, auth: object) -> Networking:
        """See Networking."""
        return NeutronNetworking(self._service.as_user(cast(BaseAuthPlugin, auth)))


def _request(spec: PortSpec) -> dict[str, Any]:
    """The attributes of a port as openstacksdk calls them."""
    request: dict[str, Any] = {
        "name": spec.name,
        "description": _description(spec.tags),
        "network_id": spec.network_id,
        "device_id": spec.device_id,
        "allowed_address_pairs": _pairs(spec.allowed_addresses),
    }
    if spec.fixed_ips:
        request["fixed_ips"] = [
            {"subnet_id": subnet_id, "ip_address": address} if address else {"subnet_id": subnet_id}
            for subnet_id, address in spec.fixed_ips
        ]
    if spec.security_group_ids:
        request["security_group_ids"] = list(spec.security_group_ids)
    if spec.project_id:
        request["project_id"] = spec.project_id
    if spec.is_vip:
        request |= {"device_owner": OWNER, "is_admin_state_up": False}
    return request


def _change_groups(
    neutron: Any, port_id: str, *, added: frozenset[str] = frozenset(), removed: frozenset[str] = frozenset()
) -> None:
    """Whatever else changes the port meanwhile: a user's VIP port is the user's."""
    for attempt in range(1, TRIES + 1):
        port = neutron.get_port(port_id)
        before = set(port.security_group_ids)
        after = (before | added) - removed
        if after == before:
            return
        try:
            neutron.update_port(port_id, if_revision=port.revision_number, security_group_ids=sorted(after))
        except exceptions.PreconditionFailedException:
            if attempt == TRIES:
                raise
        else:
            return


def _groups(neutron: Any, name: str, tags: frozenset[str]) -> list[Any]:
    """With the name and the tags, the oldest first."""
    named = neutron.security_groups(name=name, project_id=neutron.get_project_id())
    return sorted(
        (group for group in named if tags <= _all_tags(group)),
        key=lambda group: (group.created_at, group.id),
    )


def _description(tags: frozenset[str]) -> str:
    return " ".join(sorted(tags))


def _told_tags(found: Any) -> frozenset[str]:
    return frozenset((found.description or "").split())


def _all_tags(found: Any) -> frozenset[str]:
    return frozenset(found.tags or ()) | _told_tags(found)


def _joined(tags: frozenset[str]) -> str:
    return ",".join(sorted(tags))


def _pairs(addresses: frozenset[str]) -> list[dict[str, str]]:
    return [{"ip_address": address} for address in sorted(addresses)]


def _network(network: Any) -> Network:
    return Network(
        id=network.id,
        name=network.name,
        mtu=network.mtu,
        subnet_ids=tuple(network.subnet_ids),
        has_port_security=is_secured(network),
    )


def is_secured(found: Any) -> bool:
    """Whether a network or port of openstacksdk's has port security; one of a Neutron that cannot turn it off has.

    The attribute's own default says the opposite, so what Neutron sent is looked at.
    """
    return found._body.attributes.get("port_security_enabled") is not False


def _subnet(subnet: Any) -> Subnet:
    return Subnet(
        id=subnet.id,
        name=subnet.name,
        network_id=subnet.network_id,
        cidr=subnet.cidr,
        gateway_ip=subnet.gateway_ip,
        host_routes=tuple((route["destination"], route["nexthop"]) for route in subnet.host_routes or ()),
    )


def _port(port: Any) -> Port:
    """Its tags are those that Neutron searches by, or, of one half made, those of its description."""
    return Port(
        id=port.id,
        name=port.name,
        network_id=port.network_id,
        mac_address=port.mac_address,
        fixed_ips=tuple(FixedIp(subnet_id=f["subnet_id"], ip_address=f["ip_address"]) for f in port.fixed_ips),
        device_id=port.device_id or "",
        allowed_addresses=frozenset(pair["ip_address"] for pair in port.allowed_address_pairs or ()),
        qos_policy_id=port.qos_policy_id,
        has_port_security=is_secured(port),
        tags=frozenset(port.tags or ()) or frozenset(tag for tag in _told_tags(port) if "=" in tag),
    )
