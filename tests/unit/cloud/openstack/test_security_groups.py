"""What a security group lets in, as Neutron writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tavia.cloud.openstack.security_groups import Ingress, existing, ingress
from tavia.cloud.protocols import SecurityRule

GROUP = "5f8a9c56-93a5-4f0f-8d2c-0c8b3f0d6a11"

RULES = st.builds(
    SecurityRule,
    protocol=st.sampled_from(["tcp", "udp", "sctp", "vrrp"]),
    port=st.none() | st.integers(1, 65535),
    remote_cidr=st.none() | st.sampled_from(["0.0.0.0/0", "::/0", "192.0.2.0/24", "2001:db8::/64", "10.1.2.3/8"]),
    from_peers=st.booleans(),
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (SecurityRule(protocol="tcp", port=80), {("IPv4", None), ("IPv6", None)}),
        (SecurityRule(protocol="tcp", port=80, remote_cidr="0.0.0.0/0"), {("IPv4", None)}),
        (SecurityRule(protocol="tcp", port=80, remote_cidr="::/0"), {("IPv6", None)}),
        (SecurityRule(protocol="tcp", port=80, remote_cidr="10.1.2.3/8"), {("IPv4", "10.0.0.0/8")}),
        (SecurityRule(protocol="tcp", port=80, remote_cidr="2001:DB8::/32"), {("IPv6", "2001:db8::/32")}),
        (SecurityRule(protocol="vrrp", from_peers=True), {("IPv4", GROUP), ("IPv6", GROUP)}),
    ],
)
def test_each_family_has_its_rule(rule: SecurityRule, expected: set[tuple[str, str | None]]) -> None:
    rules = ingress([rule], GROUP)
    assert {(one.family, one.remote) for one in rules} == expected
    assert {(one.protocol, one.first_port, one.last_port) for one in rules} == {(rule.protocol, rule.port, rule.port)}


@given(st.sets(RULES))
def test_what_was_made_is_read_back_as_what_was_wanted(rules: set[SecurityRule]) -> None:
    """So nothing is changed the next time."""
    nothing = {"remote_ip_prefix": None, "remote_group_id": None, "remote_address_group_id": None}
    asked = ingress(rules, GROUP)
    made = [{"id": str(i), **nothing, **rule.attributes(GROUP)} for i, rule in enumerate(asked)]
    assert set(existing(made).values()) == asked


def test_what_goes_out_is_not_looked_at() -> None:
    assert existing([{"id": "1", "direction": "egress"}]) == {}


def test_a_rule_for_an_address_group_is_none_that_we_want() -> None:
    rule = {
        "id": "1",
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": 6,
        "port_range_min": 80,
        "port_range_max": 80,
        "remote_ip_prefix": None,
        "remote_group_id": None,
        "remote_address_group_id": "a-group",
    }
    assert existing([rule]) == {"1": Ingress("IPv4", "tcp", 80, 80, "a-group")}
