"""Which commands lead from the interfaces that are there to the ones that are wanted."""

from __future__ import annotations

from typing import Any

from tavia.agent.interfaces import batch
from tavia.amphora.bundle import Interface

MAC = "fa:16:3e:00:00:05"


def wanted(**given: Any) -> Interface:
    defaults: dict[str, Any] = {"name": "eth1", "mac": MAC, "mtu": 1450, "addresses": ("10.20.0.5/24",)}
    return Interface(**(defaults | given))


def link(name: str = "eth1", *addresses: str, mac: str = MAC, index: int = 3, up: bool = True) -> dict[str, Any]:
    info = [{"local": address.split("/")[0], "prefixlen": int(address.split("/")[1])} for address in addresses]
    flags = ["BROADCAST", "UP"] if up else ["BROADCAST"]
    return {"ifindex": index, "ifname": name, "address": mac, "mtu": 1450, "flags": flags, "addr_info": info}


def test_what_is_as_wanted_is_left_alone() -> None:
    routes = [{"dst": "default", "gateway": "10.20.0.1"}, {"dst": "10.20.0.0/24"}]
    interface = wanted(vips=("10.20.0.9/32",), routes=(("0.0.0.0/0", "10.20.0.1"),))
    assert list(batch([link("eth1", "10.20.0.5/24", "10.20.0.9/32")], routes, [interface], [interface])) == []


def test_a_fresh_interface_is_renamed_brought_up_addressed_and_routed() -> None:
    interface = wanted(vips=("2001:db8::9/128",), routes=(("0.0.0.0/0", "10.20.0.1"),))
    assert list(batch([link("ens4", up=False)], [], [], [interface])) == [
        "link set dev ens4 down",
        "addr flush dev ens4",
        "link set dev ens4 name tavia3",
        "link set dev tavia3 name eth1",
        "link set dev eth1 up",
        "addr replace 10.20.0.5/24 dev eth1",
        "addr replace 2001:db8::9/128 dev eth1 nodad",
        "route replace 0.0.0.0/0 via 10.20.0.1 dev eth1",
    ]


def test_two_interfaces_swap_their_names() -> None:
    other = "fa:16:3e:00:00:06"
    links = [link("eth2"), link("eth1", mac=other, index=4)]
    commands = list(batch(links, [], [], [wanted(), wanted(name="eth2", mac=other)]))
    names = [command for command in commands if " name " in command]
    assert names == [
        "link set dev eth2 name tavia3",
        "link set dev eth1 name tavia4",
        "link set dev tavia3 name eth1",
        "link set dev tavia4 name eth2",
    ]


def test_only_what_the_last_bundle_brought_is_taken_away() -> None:
    old = wanted(vips=("10.20.0.9/32",), routes=(("10.7.0.0/16", "10.20.0.1"),))
    new = wanted(vips=("10.20.0.19/32",))
    there = [link("eth1", "10.20.0.5/24", "10.20.0.9/32", "10.20.0.77/32")]
    assert list(batch(there, [{"dst": "10.7.0.0/16", "gateway": "10.20.0.1"}], [old], [new])) == [
        "route del 10.7.0.0/16 via 10.20.0.1 dev eth1",
        "addr del 10.20.0.9/32 dev eth1",
        "addr replace 10.20.0.19/32 dev eth1",
    ]


def test_routes_are_set_again_when_an_address_went() -> None:
    route = ("0.0.0.0/0", "10.20.0.1")
    old, new = wanted(vips=("10.20.0.9/32",), routes=(route,)), wanted(routes=(route,))
    commands = list(
        batch([link("eth1", "10.20.0.5/24", "10.20.0.9/32")], [{"dst": "default", "gateway": route[1]}], [old], [new])
    )
    assert commands == ["addr del 10.20.0.9/32 dev eth1", "route replace 0.0.0.0/0 via 10.20.0.1 dev eth1"]


def test_an_interface_that_is_wanted_no_more_loses_its_addresses_and_an_unplugged_one_is_ignored() -> None:
    assert list(batch([link("eth1", "10.20.0.5/24")], [], [wanted()], [])) == ["addr del 10.20.0.5/24 dev eth1"]
    assert list(batch([], [], [wanted()], [])) == []


def test_another_mtu_is_set() -> None:
    assert list(batch([link("eth1", "10.20.0.5/24")], [], [], [wanted(mtu=1400)])) == ["link set dev eth1 mtu 1400"]
