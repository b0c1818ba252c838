"""The text of the anti-spoofing rules; that the kernel takes it and obeys is tested with real traffic."""

from __future__ import annotations

import dataclasses

from tavia.cloud.local import rules
from tavia.cloud.protocols import FixedIp, Port

PORT = Port(
    id="11112222-3333-4444-5555-666677778888",
    name="p",
    network_id="n",
    mac_address="02:00:00:00:00:01",
    fixed_ips=(FixedIp(subnet_id="s", ip_address="192.0.2.5"),),
)


def test_an_interface_name_fits_the_kernels_limit() -> None:
    assert rules.interface(PORT.id) == "tap11112222-33"


def test_a_new_port_may_send_from_its_mac_its_addresses_and_its_link_local_one() -> None:
    assert rules.change(None, PORT).splitlines() == [
        'add element bridge tavia macs { "tap11112222-33" . 02:00:00:00:00:01 }',
        'add element bridge tavia sources4 { "tap11112222-33" . 192.0.2.5 }',
        'add element bridge tavia sources6 { "tap11112222-33" . fe80::ff:fe00:1 }',
        'add element bridge tavia targets6 { "tap11112222-33" . 0xfe80000000000000000000fffe000001 }',
    ]


def test_taking_an_allowed_address_away_deletes_that_element_and_no_other() -> None:
    allowed = dataclasses.replace(PORT, allowed_addresses=frozenset({"192.0.2.9"}))
    deletes = [line for line in rules.change(allowed, PORT).splitlines() if line.startswith("delete")]
    assert deletes == ['delete element bridge tavia sources4 { "tap11112222-33" . 192.0.2.9 }']


def test_a_removed_port_leaves_no_element() -> None:
    added = rules.change(None, PORT).splitlines()
    deletes = [line for line in rules.change(PORT, None).splitlines() if line.startswith("delete")]
    assert deletes == [line.replace("add", "delete", 1) for line in added]


def test_what_is_deleted_was_added_in_the_same_transaction_so_that_a_repetition_does_not_fail() -> None:
    lines = rules.change(PORT, None).splitlines()
    for line in lines:
        if line.startswith("delete"):
            assert lines.index(line.replace("delete", "add", 1)) < lines.index(line)
