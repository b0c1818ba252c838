"""Security groups let in just what is asked for, and keep what goes out as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driver_stand import Stand

from tavia.cloud.protocols import Cloud, Port, SecurityRule
from tavia.model.seams import SeamError

HTTP = SecurityRule(protocol="tcp", port=80)
SOME = SecurityRule(protocol="tcp", port=443, remote_cidr="192.0.2.77/24")
SIX = SecurityRule(protocol="udp", port=53, remote_cidr="2001:db8::/32")
VRRP = SecurityRule(protocol="vrrp", from_peers=True)
SCTP = SecurityRule(protocol="sctp", port=9, remote_cidr="0.0.0.0/0")


def let_in(stand: Stand, group_id: str) -> set[tuple[Any, ...]]:
    """What Neutron has: family, protocol, first and last port, CIDR, group."""
    return {
        (
            rule["ethertype"],
            rule["protocol"],
            rule["port_range_min"],
            rule["port_range_max"],
            rule["remote_ip_prefix"],
            rule["remote_group_id"],
        )
        for rule in stand.admin.network.get_security_group(group_id).security_group_rules
        if rule["direction"] == "ingress"
    }


def test_a_group_lets_in_just_what_the_rules_say(stand: Stand, cloud: Cloud) -> None:
    def ensure(*rules: SecurityRule) -> str:
        return cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset(rules))

    group = ensure(HTTP, SOME, SIX, VRRP, SCTP)
    http = {(family, "tcp", 80, 80, None, None) for family in ("IPv4", "IPv6")}
    vrrp = {(family, "vrrp", None, None, None, group) for family in ("IPv4", "IPv6")}
    some, six = ("IPv4", "tcp", 443, 443, "192.0.2.0/24", None), ("IPv6", "udp", 53, 53, "2001:db8::/32", None)
    assert let_in(stand, group) == {*http, *vrrp, some, six, ("IPv4", "sctp", 9, 9, None, None)}
    assert ensure(HTTP, VRRP) == group
    assert let_in(stand, group) == http | vrrp
    assert ensure() == group
    assert let_in(stand, group) == set()


def test_what_is_so_already_takes_no_change(stand: Stand, cloud: Cloud) -> None:
    rules = frozenset({HTTP, SOME, SIX, VRRP, SCTP})
    group = cloud.networking.ensure_security_group("lb-1", stand.tags, rules)
    before = stand.admin.network.get_security_group(group)
    cloud.networking.ensure_security_group("lb-1", stand.tags, rules)
    assert stand.admin.network.get_security_group(group) == before
    assert {r["ethertype"] for r in before.security_group_rules if r["direction"] == "egress"} == {"IPv4", "IPv6"}


def test_a_rule_that_somebody_added_goes(stand: Stand, cloud: Cloud) -> None:
    group = cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset({HTTP}))
    stand.admin.network.create_security_group_rule(
        security_group_id=group, direction="ingress", ether_type="IPv4", protocol="112"
    )
    cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset({HTTP}))
    assert {rule[1] for rule in let_in(stand, group)} == {"tcp"}


def test_a_protocol_by_its_number_is_the_same_rule(stand: Stand, cloud: Cloud) -> None:
    group = cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset())
    for family in ("IPv4", "IPv6"):
        stand.admin.network.create_security_group_rule(
            security_group_id=group, direction="ingress", ether_type=family, protocol="112", remote_group_id=group
        )
    cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset({VRRP}))
    assert {rule[1] for rule in let_in(stand, group)} == {"112"}


def test_a_group_is_known_by_name_and_tags(stand: Stand, cloud: Cloud) -> None:
    mine = cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset())
    other_tags = frozenset({"tavia-deployment=another"})
    others = cloud.networking.ensure_security_group("lb-1", other_tags, frozenset())
    assert others != mine
    cloud.networking.delete_security_group("lb-1", stand.tags)
    cloud.networking.delete_security_group("lb-1", stand.tags)
    assert [group.id for group in stand.admin.network.security_groups(name="lb-1")] == [others]


def test_a_group_whose_maker_died_before_it_was_tagged_is_taken_up(stand: Stand, cloud: Cloud) -> None:
    group = cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset())
    stand.admin.network.set_tags(stand.admin.network.get_security_group(group), [])
    assert cloud.networking.ensure_security_group("lb-1", stand.tags, frozenset()) == group
    assert set(stand.admin.network.get_security_group(group).tags) == stand.tags


def test_a_port_gets_a_group_more_and_loses_it(stand: Stand, cloud: Cloud, make_port: Callable[..., Port]) -> None:
    networking = cloud.networking
    group = networking.ensure_security_group("lb-1", stand.tags, frozenset({HTTP}))
    port = make_port()
    before = stand.admin.network.get_port(port.id).security_group_ids
    for _ in range(2):
        networking.add_security_group(port.id, group)
        assert set(stand.admin.network.get_port(port.id).security_group_ids) == {*before, group}
    with pytest.raises(SeamError) as refused:
        networking.delete_security_group("lb-1", stand.tags)
    assert (refused.value.code, refused.value.permanent) == ("security-group-in-use", False)
    for _ in range(2):
        networking.delete_security_group("lb-1", stand.tags, port.id)
        assert stand.admin.network.get_port(port.id).security_group_ids == before
    assert not list(stand.admin.network.security_groups(name="lb-1", tags=",".join(stand.tags)))


def test_the_quotas_of_groups_and_rules_are_named(stand: Stand, cloud: Cloud) -> None:
    with stand.quota("network", security_group=1), pytest.raises(SeamError) as refused:
        for name in ("one", "two"):
            cloud.networking.ensure_security_group(name, stand.tags, frozenset())
    assert (refused.value.code, refused.value.permanent) == ("security-group-quota", True)
    with stand.quota("network", security_group_rule=1), pytest.raises(SeamError) as refused:
        cloud.networking.ensure_security_group("three", stand.tags, frozenset({HTTP}))
    assert (refused.value.code, refused.value.permanent) == ("security-group-rule-quota", True)
