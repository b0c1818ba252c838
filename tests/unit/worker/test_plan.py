"""plan(): rows and facts in, one answer out. Each case is one situation of a load balancer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tavia.model.member_ports import as_column, planned
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, Role, Topology
from tavia.model.tree import Tree
from tavia.store.clock import utcnow
from tavia.worker.plan import Answer, Commit, Converged, Desired, Do, Facts, Failed, Kind, Removed, Step, Wait, plan

SINGLE, PAIR = Topology.SINGLE, Topology.ACTIVE_STANDBY
MASTER, BACKUP, STANDALONE = Role.MASTER, Role.BACKUP, Role.STANDALONE
GENERATION = 5
SILENCE = SeamError(Seam.MGMT_NET, "agent-timeout", "no answer")
NO_ROOM = SeamError(Seam.BOOT, "no-valid-host", "No valid host was found", permanent=True)


def amphora(name: str, role: Role, **values: Any) -> Amphora:
    """One that serves, at the generation and hash that are wanted, unless told otherwise."""
    defaults: dict[str, Any] = {
        "status": AmphoraStatus.ALLOCATED,
        "vrrp_port_id": "port",
        "compute_id": "server",
        "applied_generation": GENERATION,
        "applied_hash": "desired",
    }
    return Amphora(id=name, role=role, created_at=utcnow(), **(defaults | values))


def booting(name: str, role: Role, **values: Any) -> Amphora:
    return amphora(name, role, status=AmphoraStatus.BOOTING, applied_generation=0, applied_hash=None, **values)


def fresh(name: str, role: Role) -> Amphora:
    return booting(name, role, vrrp_port_id=None, compute_id=None)


def bad(name: str, role: Role) -> Amphora:
    """One whose server did not come up."""
    return amphora(name, role, status=AmphoraStatus.ERROR, applied_generation=0, applied_hash=None)


def plugged(*subnet_ids: str, port_id: str | None = "port") -> list[dict[str, Any]]:
    ports = planned((), subnet_ids)
    return as_column(replace(port, port_id=port_id) for port in ports)


def tree(topology: Topology, *amphorae: Amphora, **values: Any) -> Tree:
    loadbalancer = LoadBalancer(
        id="lb", project_id="p", created_at=utcnow(), topology=topology, generation=GENERATION, vip_port_id="vip"
    )
    return Tree(loadbalancer=replace(loadbalancer, **values), amphorae=amphorae)


def answer(situation: Tree, subnets: Iterable[str] = (), security: str | None = None, **facts: Any) -> Answer:
    desired = Desired({a.id: "desired" for a in situation.amphorae}, frozenset(subnets), security)
    return plan(situation, Facts(**{"vip_secured": True} | facts), desired)


def do(*steps: tuple[Kind, str]) -> Do:
    return Do(tuple(Step(kind, subject) for kind, subject in steps))


DONE: dict[str, Any] = {"committed_generation": GENERATION}

CASES: list[tuple[str, Answer, Answer]] = [
    ("nothing yet: a row for each role", answer(tree(SINGLE)), do((Kind.CREATE_AMPHORA, STANDALONE))),
    (
        "a pair is created together",
        answer(tree(PAIR)),
        do((Kind.CREATE_AMPHORA, MASTER), (Kind.CREATE_AMPHORA, BACKUP)),
    ),
    ("a row without ports", answer(tree(SINGLE, fresh("a", STANDALONE))), do((Kind.MAKE_PORTS, "a"))),
    (
        "ports without a server",
        answer(tree(SINGLE, booting("a", STANDALONE, compute_id=None))),
        do((Kind.BOOT_SERVER, "a")),
    ),
    ("a server that boots", answer(tree(SINGLE, booting("a", STANDALONE))), do((Kind.AWAIT_AGENT, "a"))),
    (
        "an agent that does not answer yet",
        answer(tree(SINGLE, booting("a", STANDALONE)), not_yet={"a"}),
        Wait("amphora a boots"),
    ),
    (
        "an agent that answers",
        answer(tree(SINGLE, booting("a", STANDALONE)), answering={"a"}),
        do((Kind.PUSH_BUNDLE, "a")),
    ),
    (
        "one half answers before the other",
        answer(tree(PAIR, booting("m", MASTER), booting("b", BACKUP)), answering={"m"}, not_yet={"b"}),
        do((Kind.PUSH_BUNDLE, "m")),
    ),
    ("all run it: say so", answer(tree(SINGLE, amphora("a", STANDALONE))), Commit()),
    ("nothing left", answer(tree(SINGLE, amphora("a", STANDALONE)), **DONE), Converged()),
    (
        "a change goes to both halves at once",
        answer(tree(PAIR, amphora("m", MASTER, applied_generation=4), amphora("b", BACKUP, applied_generation=4))),
        do((Kind.PUSH_BUNDLE, "m"), (Kind.PUSH_BUNDLE, "b")),
    ),
    (
        "the same generation with another hash is pushed again",
        answer(tree(SINGLE, amphora("a", STANDALONE, applied_hash="old")), **DONE),
        do((Kind.PUSH_BUNDLE, "a")),
    ),
    (
        "an unreachable half does not block",
        answer(
            tree(PAIR, amphora("m", MASTER), amphora("b", BACKUP, applied_generation=4)), unreachable={"b": SILENCE}
        ),
        Commit(),
    ),
    (
        "and is remembered",
        answer(
            tree(PAIR, amphora("m", MASTER), amphora("b", BACKUP, applied_generation=4)),
            unreachable={"b": SILENCE},
            **DONE,
        ),
        Converged(missed=("b",)),
    ),
    (
        "to be replaced: first its successor",
        answer(tree(SINGLE, amphora("old", STANDALONE, replace_generation=5)), **DONE),
        do((Kind.CREATE_AMPHORA, STANDALONE)),
    ),
    (
        "changes reach the old one while its successor boots",
        answer(
            tree(
                SINGLE,
                amphora("old", STANDALONE, replace_generation=4, applied_generation=4),
                booting("new", STANDALONE),
            ),
            not_yet={"new"},
        ),
        do((Kind.PUSH_BUNDLE, "old")),
    ),
    (
        "nothing is pushed to one that is replaced because it is silent",
        answer(
            tree(
                SINGLE,
                amphora("old", STANDALONE, replace_generation=4, applied_generation=4),
                booting("new", STANDALONE),
            ),
            silent=frozenset({"old"}),
        ),
        do((Kind.AWAIT_AGENT, "new")),
    ),
    (
        "the successor is ready: fence the old one",
        answer(
            tree(SINGLE, amphora("old", STANDALONE, replace_generation=5), booting("new", STANDALONE)),
            answering={"new"},
            **DONE,
        ),
        do((Kind.FENCE_AMPHORA, "old")),
    ),
    (
        "fenced: the successor takes the VIP before the old one is removed",
        answer(
            tree(
                SINGLE,
                amphora("old", STANDALONE, replace_generation=5, fenced=True, status=AmphoraStatus.PENDING_DELETE),
                booting("new", STANDALONE),
            ),
            answering={"new"},
            **DONE,
        ),
        do((Kind.PUSH_BUNDLE, "new")),
    ),
    (
        "then it is removed",
        answer(
            tree(
                SINGLE,
                amphora("old", STANDALONE, replace_generation=5, fenced=True, status=AmphoraStatus.PENDING_DELETE),
                amphora("new", STANDALONE),
            ),
            **DONE,
        ),
        do((Kind.REMOVE_AMPHORA, "old")),
    ),
    (
        "both halves are to be replaced: the one that does not hold the VIP comes first",
        answer(
            tree(
                PAIR,
                amphora("m", MASTER, replace_generation=5),
                amphora("b", BACKUP, replace_generation=5),
                booting("m2", MASTER),
                booting("b2", BACKUP),
            ),
            answering={"m2", "b2"},
            vrrp_master="b",
            **DONE,
        ),
        do((Kind.FENCE_AMPHORA, "m")),
    ),
    (
        "who holds the VIP is unknown: the BACKUP comes first",
        answer(
            tree(
                PAIR,
                amphora("m", MASTER, replace_generation=5),
                amphora("b", BACKUP, replace_generation=5),
                booting("m2", MASTER),
                booting("b2", BACKUP),
            ),
            answering={"m2", "b2"},
            **DONE,
        ),
        do((Kind.FENCE_AMPHORA, "b")),
    ),
    (
        "no host has room for a successor beside the old one: it leaves first where the other half serves",
        answer(
            tree(PAIR, amphora("m", MASTER, replace_generation=5), amphora("b", BACKUP), bad("m2", MASTER)),
            failed={MASTER: NO_ROOM},
            vrrp_master="m",
            **DONE,
        ),
        do((Kind.FENCE_AMPHORA, "m")),
    ),
    (
        "both are to be replaced: one after the other",
        answer(
            tree(PAIR, amphora("m", MASTER, replace_generation=5), amphora("b", BACKUP, replace_generation=5)),
            failed={MASTER: NO_ROOM, BACKUP: NO_ROOM},
            vrrp_master="b",
            **DONE,
        ),
        do((Kind.FENCE_AMPHORA, "m")),
    ),
    (
        "the second only when the first one's successor serves",
        answer(
            tree(PAIR, booting("m2", MASTER), amphora("b", BACKUP, replace_generation=5)),
            failed={BACKUP: NO_ROOM},
            not_yet={"m2"},
            **DONE,
        ),
        Failed(NO_ROOM),
    ),
    (
        "where the other half is silent nobody leaves",
        answer(
            tree(PAIR, amphora("m", MASTER, replace_generation=5), amphora("b", BACKUP)),
            failed={MASTER: NO_ROOM},
            silent=frozenset({"b"}),
            **DONE,
        ),
        Failed(NO_ROOM),
    ),
    (
        "nor for any other failure",
        answer(
            tree(PAIR, amphora("m", MASTER, replace_generation=5), amphora("b", BACKUP)),
            failed={MASTER: SILENCE},
            **DONE,
        ),
        Failed(SILENCE),
    ),
    (
        "a single one never leaves first",
        answer(tree(SINGLE, amphora("a", STANDALONE, replace_generation=5)), failed={STANDALONE: NO_ROOM}, **DONE),
        Failed(NO_ROOM),
    ),
    (
        "a server that never came up is removed and a new row made",
        answer(tree(SINGLE, amphora("bad", STANDALONE, status=AmphoraStatus.ERROR))),
        do((Kind.CREATE_AMPHORA, STANDALONE)),
    ),
    (
        "its successor gets nothing before it is fenced",
        answer(
            tree(SINGLE, amphora("bad", STANDALONE, status=AmphoraStatus.ERROR), booting("new", STANDALONE)),
            answering={"new"},
        ),
        do((Kind.FENCE_AMPHORA, "bad")),
    ),
    (
        "it is removed too while its successor does not come up",
        answer(
            tree(SINGLE, amphora("bad", STANDALONE, status=AmphoraStatus.ERROR), booting("new", STANDALONE)),
            not_yet={"new"},
        ),
        do((Kind.REMOVE_AMPHORA, "bad")),
    ),
    (
        "a second amphora in one role is one too many",
        answer(tree(SINGLE, amphora("a", STANDALONE), amphora("extra", STANDALONE)), **DONE),
        do((Kind.FENCE_AMPHORA, "extra")),
    ),
    (
        "deletion: the amphorae first",
        answer(tree(SINGLE, amphora("a", STANDALONE), deleted_generation=5)),
        do((Kind.REMOVE_AMPHORA, "a")),
    ),
    (
        "deletion: a server that is still built is waited for",
        answer(tree(PAIR, amphora("m", MASTER), booting("b", BACKUP), deleted_generation=5), leaving={"b"}),
        do((Kind.REMOVE_AMPHORA, "m")),
    ),
    (
        "deletion: and the VIP's port waits with it",
        answer(tree(SINGLE, booting("a", STANDALONE), deleted_generation=5), leaving={"a"}),
        Wait("the server of amphora a is deleted when compute has built it", "server-being-built"),
    ),
    (
        "what serves does not wait until a replaced server is built",
        answer(
            tree(SINGLE, amphora("a", STANDALONE), amphora("old", STANDALONE, status=AmphoraStatus.PENDING_DELETE)),
            leaving={"old"},
            **DONE,
        ),
        Converged(),
    ),
    ("deletion: then the VIP's port", answer(tree(SINGLE, deleted_generation=5)), do((Kind.RELEASE_VIP, "vip"))),
    (
        "who may reach the VIP has changed: before anything is pushed, and beside new rows",
        answer(tree(PAIR, amphora("m", MASTER, applied_generation=4)), security="rules", vip_secured=False),
        do((Kind.CREATE_AMPHORA, BACKUP), (Kind.SECURE_VIP, "vip")),
    ),
    (
        "as long as it has not there is nothing to say",
        answer(
            tree(SINGLE, amphora("a", STANDALONE)), security="rules", undone={Step(Kind.SECURE_VIP, "vip"): SILENCE}
        ),
        Failed(SILENCE),
    ),
    (
        "but what was accepted reaches the amphora",
        answer(
            tree(SINGLE, amphora("a", STANDALONE, applied_generation=4)),
            security="rules",
            undone={Step(Kind.SECURE_VIP, "vip"): SILENCE},
        ),
        do((Kind.PUSH_BUNDLE, "a")),
    ),
    (
        "before an amphora gets ports the VIP's is looked at",
        answer(tree(SINGLE, fresh("a", STANDALONE)), vip_secured=False),
        do((Kind.SECURE_VIP, "vip")),
    ),
    (
        "without it there is no boot",
        answer(tree(SINGLE, fresh("a", STANDALONE)), vip_secured=False, undone={Step(Kind.SECURE_VIP, "vip"): SILENCE}),
        Failed(SILENCE),
    ),
    (
        "members' subnets are plugged before the push that needs them, one after the other",
        answer(tree(SINGLE, amphora("a", STANDALONE, applied_generation=4)), subnets={"s2", "s1"}),
        Do((Step(Kind.PLUG_PORT, "a", "s1"),)),
    ),
    (
        "one that is plugged is not plugged again",
        answer(
            tree(SINGLE, amphora("a", STANDALONE, member_ports=plugged("s1"), applied_generation=4)), subnets={"s1"}
        ),
        do((Kind.PUSH_BUNDLE, "a")),
    ),
    (
        "one that was about to be is",
        answer(tree(SINGLE, amphora("a", STANDALONE, member_ports=plugged("s1", port_id=None))), subnets={"s1"}),
        Do((Step(Kind.PLUG_PORT, "a", "s1"),)),
    ),
    (
        "one that cannot be plugged keeps no other from being",
        answer(
            tree(SINGLE, amphora("a", STANDALONE)),
            subnets={"s1", "s2"},
            undone={Step(Kind.PLUG_PORT, "a", "s1"): SILENCE},
        ),
        Do((Step(Kind.PLUG_PORT, "a", "s2"),)),
    ),
    (
        "nor from being applied",
        answer(
            tree(SINGLE, amphora("a", STANDALONE)), subnets={"s1"}, undone={Step(Kind.PLUG_PORT, "a", "s1"): SILENCE}
        ),
        Commit(),
    ),
    (
        "then it is told",
        answer(
            tree(SINGLE, amphora("a", STANDALONE)),
            subnets={"s1"},
            undone={Step(Kind.PLUG_PORT, "a", "s1"): SILENCE},
            **DONE,
        ),
        Failed(SILENCE),
    ),
    (
        "a replacement is plugged before the old one is fenced",
        answer(
            tree(
                SINGLE,
                amphora("old", STANDALONE, replace_generation=5, member_ports=plugged("s1")),
                booting("new", STANDALONE),
            ),
            subnets={"s1"},
            answering={"new"},
            **DONE,
        ),
        Do((Step(Kind.PLUG_PORT, "new", "s1"),)),
    ),
    (
        "one that boots is not: it does so with all that it needs",
        answer(tree(SINGLE, booting("a", STANDALONE)), subnets={"s1"}),
        do((Kind.AWAIT_AGENT, "a")),
    ),
    (
        "what no member is on any more is unplugged when all is applied",
        answer(tree(SINGLE, amphora("a", STANDALONE, member_ports=plugged("s1"))), **DONE),
        Do((Step(Kind.UNPLUG_PORT, "a", "s1"),)),
    ),
    (
        "not from an amphora that still uses it",
        answer(
            tree(SINGLE, amphora("a", STANDALONE, applied_generation=4, member_ports=plugged("s1"))),
            unreachable={"a": SILENCE},
            **DONE,
        ),
        Converged(missed=("a",)),
    ),
    (
        "another QoS policy",
        answer(tree(SINGLE, amphora("a", STANDALONE), vip_qos_policy_id="slow"), **DONE),
        do((Kind.SET_QOS_POLICY, "a")),
    ),
    (
        "too many boot already",
        answer(tree(SINGLE, booting("a", STANDALONE, compute_id=None)), queued={"a"}),
        Wait("amphora a waits for others to boot: build_rate_limit"),
    ),
    ("deletion: all gone", answer(tree(SINGLE, deleted_generation=5), vip_released=True), Removed()),
]


@pytest.mark.parametrize(("situation", "got", "expected"), CASES, ids=[case[0] for case in CASES])
def test_the_next_answer(situation: str, got: Answer, expected: Answer) -> None:
    assert got == expected, situation
