"""Who may reach the VIP, from the listeners alone."""

from __future__ import annotations

import trees

from tavia.cloud.protocols import SecurityRule
from tavia.model.statuses import Topology
from tavia.worker.security import rules_hash, security_rules


def test_a_listeners_port_is_open_to_all() -> None:
    tree = trees.tree(trees.listener(protocol_port=80))
    assert security_rules(tree, peers_only=True) == {SecurityRule(protocol="tcp", port=80)}


def test_with_allowed_cidrs_only_to_those() -> None:
    tree = trees.tree(trees.listener(protocol_port=80, allowed_cidrs=["192.0.2.7/24", "2001:db8::/32"]))
    assert security_rules(tree, peers_only=True) == {
        SecurityRule(protocol="tcp", port=80, remote_cidr="192.0.2.0/24"),
        SecurityRule(protocol="tcp", port=80, remote_cidr="2001:db8::/32"),
    }


def test_what_is_switched_off_is_closed() -> None:
    assert security_rules(trees.tree(trees.listener(admin_state_up=False)), peers_only=True) == frozenset()
    assert security_rules(trees.tree(trees.listener(), admin_state_up=False), peers_only=True) == frozenset()


def test_a_pair_talks_to_itself() -> None:
    tree = trees.tree(topology=Topology.ACTIVE_STANDBY)
    assert security_rules(tree, peers_only=True) == {
        SecurityRule(protocol="vrrp", from_peers=True),
        SecurityRule(protocol="tcp", port=1025, from_peers=True),
    }
    assert {rule.from_peers for rule in security_rules(tree, peers_only=False)} == {False}


def test_equal_rules_have_equal_hashes_whatever_their_order() -> None:
    cidrs = ["192.0.2.0/24", "198.51.100.0/24"]
    one, other, third = (
        security_rules(trees.tree(trees.listener(id="l", protocol_port=80, allowed_cidrs=each)), peers_only=True)
        for each in (cidrs, cidrs[::-1], cidrs[:1])
    )
    assert rules_hash(one) == rules_hash(other) != rules_hash(third)
