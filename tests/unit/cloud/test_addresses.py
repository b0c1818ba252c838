"""Which address a port gets."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tavia.cloud.local import addresses
from tavia.cloud.protocols import AddressRefused, Subnet


def subnet(cidr: str, gateway: str | None = None) -> Subnet:
    return Subnet(id="s", name="s", network_id="n", cidr=cidr, gateway_ip=gateway)


SMALL = subnet("192.0.2.0/29", "192.0.2.1")


@pytest.mark.parametrize(
    ("taken", "after", "given"),
    [
        (set(), None, "192.0.2.2"),
        ({"192.0.2.2"}, None, "192.0.2.3"),
        (set(), "192.0.2.4", "192.0.2.5"),
        ({"192.0.2.5"}, "192.0.2.4", "192.0.2.6"),
        (set(), "192.0.2.6", "192.0.2.2"),
        ({"192.0.2.2", "192.0.2.3", "192.0.2.5", "192.0.2.6"}, "192.0.2.6", "192.0.2.4"),
    ],
)
def test_the_first_free_address_behind_the_last_one_given(taken: set[str], after: str | None, given: str) -> None:
    assert addresses.choose(SMALL, taken, None, after) == given


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("192.0.2.0", "address-outside-subnet"),
        ("192.0.2.7", "address-outside-subnet"),
        ("192.0.2.8", "address-outside-subnet"),
        ("2001:db8::1", "address-outside-subnet"),
        ("192.0.2", "address-outside-subnet"),
        ("192.0.2.1", "address-in-use"),
        ("192.0.2.3", "address-in-use"),
    ],
)
def test_a_wanted_address_that_no_port_may_have(wanted: str, code: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        addresses.choose(SMALL, {"192.0.2.3"}, wanted)
    assert refused.value.code == code


def test_an_ipv6_address_is_compared_in_one_spelling() -> None:
    six = subnet("2001:db8::/64")
    assert addresses.choose(six, set(), "2001:DB8:0::00ff") == "2001:db8::ff"
    with pytest.raises(AddressRefused):
        addresses.choose(six, {"2001:db8::ff"}, "2001:DB8:0::00ff")


@given(
    cidr=st.sampled_from(["192.0.2.0/29", "192.0.2.0/30", "192.0.2.0/31", "192.0.2.4/32", "2001:db8::/125"]),
    after=st.integers(0, 7),
)
def test_a_subnet_gives_each_host_address_once_and_is_then_full(cidr: str, after: int) -> None:
    network = ipaddress.ip_network(cidr)
    last: str | None = str(network.network_address + after)
    taken: set[str] = set()
    with pytest.raises(AddressRefused) as refused:
        while True:
            last = addresses.choose(subnet(cidr), taken, None, last)
            assert last not in taken
            taken.add(last)
    assert refused.value.code == "subnet-full"
    expected = set(map(str, network.hosts()))
    assert taken == expected


def test_macs_are_locally_administered_unicast_and_differ() -> None:
    macs = {addresses.mac_address(f"port {number}") for number in range(1000)}
    assert len(macs) == 1000
    assert {int(mac[:2], 16) & 0b11 for mac in macs} == {0b10}


def test_the_link_local_address_of_a_mac() -> None:
    assert addresses.link_local("02:00:5e:10:00:01") == "fe80::5eff:fe10:1"
