"""What amphorae report becomes the operating statuses that people see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet import beat, open_listener
from trees import listener, member, pool, tree

from tavia.amphora.heartbeat import Heartbeat, ListenerReport, PoolReport
from tavia.health.operating import corrections, spokesman
from tavia.model.resources import Listener, Member, Pool
from tavia.model.statuses import OperatingStatus as Status
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Tree

A, B = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
ACTIVE: dict[str, Any] = {"provisioning_status": ProvisioningStatus.ACTIVE}
FULL = replace(open_listener(), status="FULL")


def a_tree(*rows: Any, **given: Any) -> Tree:
    return tree(*(rows or (listener(**ACTIVE), pool(**ACTIVE), member(**ACTIVE))), **(ACTIVE | given))


def statuses(tree: Tree, *heartbeats: Heartbeat) -> dict[str, Status]:
    """All statuses after the corrections, by id."""
    rows = (tree.loadbalancer, *tree.of(Listener), *tree.of(Pool), *tree.of(Member))
    return {row.id: row.operating_status for row in rows} | {c.id: c.status for c in corrections(tree, heartbeats)}


def report(member_word: str = "UP", pool_word: str = "UP", listener: ListenerReport | None = None) -> Heartbeat:
    backend = PoolReport(status=pool_word, members={"m1": member_word})
    return beat(A, generation=7, listeners={"web": listener or open_listener()}, pools={"app:web": backend})


@pytest.mark.parametrize(
    ("heartbeat", "lb", "web", "app", "m1"),
    [
        (report("UP"), Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.ONLINE),
        (report("UP 1/3"), Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.ONLINE),
        (report("no check"), Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.NO_MONITOR),
        (report("DRAIN"), Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.DRAINING),
        (report("MAINT"), Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.OFFLINE),
        (report("DOWN"), Status.DEGRADED, Status.ONLINE, Status.DEGRADED, Status.ERROR),
        (report("DOWN 1/2"), Status.DEGRADED, Status.ONLINE, Status.DEGRADED, Status.ERROR),
        (report("DOWN", "DOWN"), Status.ERROR, Status.ONLINE, Status.ERROR, Status.ERROR),
        (report("UP", listener=FULL), Status.DEGRADED, Status.DEGRADED, Status.ONLINE, Status.ONLINE),
        (beat(A, generation=7, haproxy_up=False), Status.ERROR, Status.ERROR, Status.OFFLINE, Status.OFFLINE),
    ],
)
def test_haproxys_words_become_the_statuses_of_the_api(
    heartbeat: Heartbeat, lb: Status, web: Status, app: Status, m1: Status
) -> None:
    assert statuses(a_tree(), heartbeat) == {"lb": lb, "web": web, "app": app, "m1": m1}


def test_a_member_of_weight_0_drains_whatever_its_check_says() -> None:
    drained = a_tree(listener(**ACTIVE), pool(**ACTIVE), member(weight=0, **ACTIVE))
    assert statuses(drained, report("UP"))["m1"] is Status.DRAINING
    assert statuses(drained, report("no check"))["m1"] is Status.DRAINING
    assert statuses(drained, report("DOWN"))["m1"] is Status.ERROR


def test_what_is_switched_off_is_offline() -> None:
    off: dict[str, Any] = ACTIVE | {"admin_state_up": False, "operating_status": Status.ONLINE}
    assert statuses(a_tree(**off), report())["lb"] is Status.OFFLINE
    assert statuses(a_tree(**off), beat(A, generation=7))["web"] is Status.OFFLINE
    rows = (listener(**off), pool(**off), member(**ACTIVE))
    assert statuses(a_tree(*rows), report()) == {
        "lb": Status.ONLINE, "web": Status.OFFLINE, "app": Status.OFFLINE, "m1": Status.ONLINE,
    }  # fmt: skip


def test_what_is_not_applied_yet_keeps_its_status_though_no_heartbeat_names_it() -> None:
    new = a_tree(listener(changed_generation=7), pool(**ACTIVE), member(**ACTIVE))
    assert statuses(new, replace(report(), listeners={}))["web"] is Status.OFFLINE
    later = a_tree(listener(changed_generation=8, operating_status=Status.ONLINE, **ACTIVE))
    assert statuses(later, beat(A, generation=7))["web"] is Status.ONLINE


def test_a_part_of_a_large_heartbeat_says_nothing_of_what_it_does_not_name() -> None:
    online = {**ACTIVE, "operating_status": Status.ONLINE}
    rows = a_tree(listener(**online), pool(**online), member(**online), operating_status=Status.ONLINE)
    assert corrections(rows, [beat(A, generation=7, complete=False)]) == []
    assert {c.id for c in corrections(rows, [beat(A, generation=7)])} == {"lb", "web", "app", "m1"}


def test_a_pool_behind_two_listeners_is_as_bad_as_the_worse_of_its_two_backends() -> None:
    backends = {
        "app:web": PoolReport(status="UP", members={"m1": "UP"}),
        "app:other": PoolReport(status="UP", members={"m1": "DOWN"}),
    }
    found = statuses(a_tree(), replace(report(), pools=backends))
    assert (found["m1"], found["app"]) == (Status.ERROR, Status.DEGRADED)


def test_rows_marked_deleted_are_left_alone() -> None:
    leaving = a_tree(listener(deleted_generation=8, **ACTIVE), pool(**ACTIVE), member(**ACTIVE))
    assert "web" not in {c.id for c in corrections(leaving, [replace(report(), listeners={})])}


def test_in_a_pair_the_vrrp_masters_word_counts() -> None:
    master = replace(report("UP"), vrrp_state="MASTER")
    backup = replace(report("DOWN", "DOWN"), amphora_id=B, vrrp_state="BACKUP")
    for heartbeats in ([master, backup], [backup, master]):
        assert statuses(a_tree(), *heartbeats)["app"] is Status.ONLINE
    taken_over = replace(backup, vrrp_state="MASTER"), replace(master, vrrp_state="FAULT")
    assert statuses(a_tree(), *taken_over)["app"] is Status.ERROR


def test_an_amphora_without_a_bundle_has_nothing_to_say() -> None:
    assert spokesman([beat(A, generation=0, vrrp_state="MASTER")]) is None
    assert corrections(a_tree(), [beat(A, generation=0)]) == []
