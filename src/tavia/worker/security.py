"""Who may reach the VIP: the rules of its security group. Pure; the step secure-vip puts them there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple
from ipaddress import ip_network

from tavia.cloud.protocols import SecurityRule
from tavia.model.protocols import LISTENER_PROTOCOLS
from tavia.model.resources import Listener
from tavia.model.statuses import Topology
from tavia.model.tree import Tree
from tavia.render.haproxy import PEER_PORT


def group_name(loadbalancer_id: str) -> str:
    """The name of a load balancer's security group, as in Octavia."""
    return f"lb-{loadbalancer_id}"


def security_rules(tree: Tree, *, peers_only: bool) -> frozenset[SecurityRule]:
    """What is let in: each listener's port, from where it allows, and what the two of a pair tell each other.

    ``tree`` is a :meth:`Tree.intended`; ``peers_only``: the pair's own traffic is let in from each other alone.
    """
    lb = tree.loadbalancer
    served = [each for each in tree.of(Listener) if each.admin_state_up and lb.admin_state_up]
    rules = {rule for listener in served for rule in _rules_of(listener)}
    if lb.topology is Topology.ACTIVE_STANDBY:
        rules |= {
            SecurityRule(protocol="vrrp", from_peers=peers_only),
            SecurityRule(protocol="tcp", port=PEER_PORT, from_peers=peers_only),
        }
    return frozenset(rules)


def rules_hash(rules: frozenset[SecurityRule]) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(repr(sorted(repr(astuple(rule)) for rule in rules)).encode()).hexdigest()


def _rules_of(listener: Listener) -> Iterator[SecurityRule]:
    for cidr in listener.allowed_cidrs or (None,):
        source = str(ip_network(cidr, strict=False)) if cidr else None
        yield SecurityRule(
            protocol=LISTENER_PROTOCOLS[listener.protocol].transport, port=listener.protocol_port, remote_cidr=source
        )
