"""What to do next for one load balancer. Pure: rows and facts in, one answer out; the convergence calls it in a loop.

Create, update, failover, delete and resync are all this one comparison. It reads generations and what amphora rows
record, never a provisioning status. Whatever an earlier attempt did before it died stands in the rows or is found by
tag when a step runs, so the answer is the same after any crash.

The order of the answers is the order of what matters to traffic: make way for it (the VIP's security group, ports on
members' subnets), push what can be pushed, say that it is applied, move the VIP to amphorae that are ready, boot the
missing ones, remove what is replaced or plugged for nothing, and only then wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice

from tavia.model.member_ports import member_ports, plugged_subnets
from tavia.model.resources import Amphora
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, Role
from tavia.model.tree import Tree


class Kind(StrEnum):
    """What a step does. Its value is its name in the journal."""

    CREATE_AMPHORA = "create-amphora"
    SECURE_VIP = "secure-vip"
    MAKE_PORTS = "make-ports"
    BOOT_SERVER = "boot-server"
    AWAIT_AGENT = "await-agent"
    PLUG_PORT = "plug-port"
    UNPLUG_PORT = "unplug-port"
    SET_QOS_POLICY = "set-qos-policy"
    PUSH_BUNDLE = "push-bundle"
    ROTATE_CERTIFICATE = "rotate-certificate"
    FENCE_AMPHORA = "fence-amphora"
    REMOVE_AMPHORA = "remove-amphora"
    RELEASE_VIP = "release-vip"


SEAM_OF = {
    Kind.CREATE_AMPHORA: Seam.CONTROL,
    Kind.SECURE_VIP: Seam.BOOT,
    Kind.MAKE_PORTS: Seam.BOOT,
    Kind.BOOT_SERVER: Seam.BOOT,
    Kind.AWAIT_AGENT: Seam.MGMT_NET,
    Kind.PLUG_PORT: Seam.BOOT,
    Kind.UNPLUG_PORT: Seam.BOOT,
    Kind.SET_QOS_POLICY: Seam.BOOT,
    Kind.PUSH_BUNDLE: Seam.AGENT,
    Kind.ROTATE_CERTIFICATE: Seam.AGENT,
    Kind.FENCE_AMPHORA: Seam.BOOT,
    Kind.REMOVE_AMPHORA: Seam.BOOT,
    Kind.RELEASE_VIP: Seam.BOOT,
}


BOOTING = frozenset({Kind.MAKE_PORTS, Kind.BOOT_SERVER, Kind.AWAIT_AGENT})
"""The steps of an amphora on its way up. One that fails fails its role, and the other role goes on."""
OF_A_ROLE = BOOTING | {Kind.FENCE_AMPHORA}
"""The steps that hold up their role alone: one that fails is not tried again by this convergence."""
LOOKS = frozenset({Kind.AWAIT_AGENT, Kind.REMOVE_AMPHORA})
"""The steps that have changed nothing where they leave nothing behind: compute and the amphora take their time."""
NO_VALID_HOST = "no-valid-host"
"""The code of a boot for which compute found no room."""
OPTIONAL = frozenset({Kind.SECURE_VIP, Kind.PLUG_PORT, Kind.UNPLUG_PORT, Kind.SET_QOS_POLICY, Kind.ROTATE_CERTIFICATE})
"""The steps that hold up only what needs them. One that fails is shown when all else is done."""


@dataclass(frozen=True, slots=True)
class Step:
    """One effect. ``subject`` is the id of the amphora, the role to fill for CREATE_AMPHORA, or the VIP's port.

    ``subnet_id`` is what PLUG_PORT and UNPLUG_PORT are about.
    """

    kind: Kind
    subject: str
    subnet_id: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """What the tree asks for: the hash of each serving amphora's bundle, members' subnets, the VIP's security rules.

    ``security_hash`` stands for the rules.
    """

    hashes: Mapping[str, str]
    subnet_ids: frozenset[str] = frozenset()
    security_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Do:
    """Take these steps side by side, then plan again."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """What changed up to the tree's generation runs on every amphora that can be reached."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now; ``reason`` says what it waits for, ``code`` is its name."""

    reason: str
    code: str = "waiting"


@dataclass(frozen=True, slots=True)
class Failed:
    """All that could be done is done, but not what met ``failure``."""

    failure: SeamError


@dataclass(frozen=True, slots=True)
class Converged:
    """All is as it should be, but for ``missed``: the amphorae that could not be reached."""

    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """The load balancer was to be deleted, and nothing of it is left."""


Answer = Do | Commit | Wait | Failed | Converged | Removed


@dataclass(slots=True)
class Facts:
    """What this convergence has learnt so far and no row records.

    ``silent``: amphorae whose heartbeats stopped; ``vrrp_master``: the one that last reported to hold the VIP;
    ``answering``/``not_yet``: agents that did or did not answer while booting; ``unreachable``: why a push failed;
    ``failed``: why a role's amphora did not boot, or its old one was not fenced; ``undone``: why an optional step was
    not done; both are tried again by the next convergence only. ``queued``: amphorae that may not boot yet, because too
    many do; ``leaving``: amphorae whose server compute deletes when it has built it; ``plugged_again``: what plugged
    ports that an agent did not see; ``vip_secured``: the VIP's port is there, and guarded; ``without_vip``: amphorae
    that compute did not power off, and whose port the network no longer lets use the VIP; ``rotate_before``: an agent
    whose certificate expires by then (UTC, naive) gets another; ``rotated``: those that did.
    """

    silent: frozenset[str] = frozenset()
    vrrp_master: str | None = None
    answering: set[str] = field(default_factory=set)
    not_yet: set[str] = field(default_factory=set)
    unreachable: dict[str, SeamError] = field(default_factory=dict)
    failed: dict[Role | None, SeamError] = field(default_factory=dict)
    undone: dict[Step, SeamError] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    plugged_again: set[Step] = field(default_factory=set)
    without_vip: set[str] = field(default_factory=set)
    rotate_before: datetime | None = None
    rotated: set[str] = field(default_factory=set)
    committed_generation: int = 0
    vip_secured: bool = False
    vip_released: bool = False


def serving(tree: Tree, facts: Facts) -> tuple[Amphora, ...]:
    """The amphorae that carry the traffic now, at most one a role: a new one only after the old ones are fenced."""
    found = []
    for role in tree.loadbalancer.topology.roles:
        new, old = _kept(tree, role), _unfenced(tree, role)
        standing = [a for a in old if a.status is AmphoraStatus.ALLOCATED]
        if standing:
            found.append(standing[-1])
        elif new and not old and _ready(new, facts):
            found.append(new)
    return tuple(found)


def plan(tree: Tree, facts: Facts, desired: Desired) -> Answer:
    """The next answer."""
    if tree.loadbalancer.deleted_generation is not None:
        return _removal(tree, facts)
    carrying = serving(tree, facts)
    is_secured = tree.loadbalancer.security_hash == desired.security_hash
    if steps := _not_undone(facts, () if is_secured else _secure(tree, facts), _prepare(tree, facts, desired)):
        return Do(steps)
    outdated = [a for a in carrying if not _runs(a, tree, desired) and not _given_up(a, facts)]
    standing = [a for a in outdated if _speaks(a)]
    newcomers = outdated if all(_is_no_rival(a, tree, facts, desired) for a in carrying if _speaks(a)) else []
    if told_next := standing or newcomers:
        return Do(tuple(Step(Kind.PUSH_BUNDLE, a.id) for a in told_next))
    applied = is_secured and any(_runs(a, tree, desired) for a in carrying)
    if applied and facts.committed_generation < tree.generation:
        return Commit()
    others = (_boot(tree, facts), _rotations(carrying, facts), _leftovers(tree, facts, desired))
    if steps := _not_undone(facts, _fence(tree, facts, desired), *others):
        return Do(steps)
    missed = tuple(a.id for a in carrying if a.id in facts.unreachable and not _runs(a, tree, desired))
    return _obstacle(tree, facts) or (None if missed else _untold(outdated)) or Converged(missed)


def _not_undone(facts: Facts, *choices: Iterable[Step]) -> tuple[Step, ...]:
    """The first of the choices in which something is left to try."""
    tried = (tuple(step for step in choice if step not in facts.undone) for choice in choices)
    return next((steps for steps in tried if steps), ())


def _obstacle(tree: Tree, facts: Facts) -> Failed | Wait | None:
    if failures := (*facts.failed.values(), *facts.undone.values()):
        return Failed(failures[0])
    booting = [a.id for a in tree.amphorae if a.id in facts.not_yet and a.id not in facts.answering]
    if booting:
        return Wait(f"amphora {', '.join(booting)} boots")
    if facts.queued:
        return Wait(f"amphora {', '.join(sorted(facts.queued))} waits for others to boot: build_rate_limit")
    return None


def _untold(newcomers: Sequence[Amphora]) -> Wait | None:
    """Halves that are ready to serve, and whose peers neither know of them nor are fenced."""
    ids = ", ".join(a.id for a in newcomers)
    return Wait(f"amphora {ids} waits until its peer knows of it or is fenced", "peer-not-told") if ids else None


def _removal(tree: Tree, facts: Facts) -> Answer:
    if steps := tuple(_removals(tree.amphorae, facts)):
        return Do(steps)
    if tree.amphorae:
        reason = f"the server of amphora {', '.join(a.id for a in tree.amphorae)} is deleted when compute has built it"
        return Wait(reason, "server-being-built")
    port = tree.loadbalancer.vip_port_id
    if port and not facts.vip_released:
        return Do((Step(Kind.RELEASE_VIP, port),))
    return Removed()


def _secure(tree: Tree, facts: Facts) -> list[Step]:
    """Beside what needs nothing of the cloud, so that a creation takes one transaction less.

    It is recorded last: new rows name the VIP's port as it was, and it may be another one.
    """
    step = Step(Kind.SECURE_VIP, tree.loadbalancer.vip_port_id or "")
    return [*(each for each in _boots(tree, facts) if each.kind is Kind.CREATE_AMPHORA), step]


def _prepare(tree: Tree, facts: Facts, desired: Desired) -> Iterator[Step]:
    """Of each amphora that stands one port at a time: what a step leaves behind is in one column."""
    for amphora in _prepared(tree, facts):
        missing = sorted(desired.subnet_ids - plugged_subnets(amphora))
        plugs = (Step(Kind.PLUG_PORT, amphora.id, subnet_id) for subnet_id in missing)
        yield from islice((step for step in plugs if step not in facts.undone), 1)
        if amphora.qos_policy_id != tree.loadbalancer.vip_qos_policy_id:
            yield Step(Kind.SET_QOS_POLICY, amphora.id)


def _prepared(tree: Tree, facts: Facts) -> list[Amphora]:
    """Those that serve, and those that will as soon as they are let."""
    kept = (_kept(tree, role) for role in tree.loadbalancer.topology.roles)
    ready = [a for a in kept if a and _ready(a, facts)]
    return ready + [a for a in serving(tree, facts) if a not in ready and not _given_up(a, facts)]


def _standing(tree: Tree, role: Role) -> list[Amphora]:
    return [a for a in tree.amphorae if a.role is role and a.status in (AmphoraStatus.BOOTING, AmphoraStatus.ALLOCATED)]


def _kept(tree: Tree, role: Role) -> Amphora | None:
    return next((a for a in _standing(tree, role) if a.replace_generation is None), None)


def _unfenced(tree: Tree, role: Role) -> list[Amphora]:
    """What must be fenced before the role's kept amphora may take the VIP."""
    kept = _kept(tree, role)
    failed = [a for a in tree.amphorae if a.role is role and a.status is AmphoraStatus.ERROR and not a.fenced]
    return failed + [a for a in _standing(tree, role) if a is not kept and not a.fenced]


def _ready(amphora: Amphora, facts: Facts) -> bool:
    return amphora.status is AmphoraStatus.ALLOCATED or amphora.id in facts.answering


def _speaks(amphora: Amphora) -> bool:
    """Whether its keepalived runs, or may: it has had a bundle.

    Its peer is to know of it by then, or both hold the VIP: with unicast peers neither hears who it was not told of.
    So who speaks already takes each bundle first, and who was never told to waits for that.
    """
    return amphora.status is AmphoraStatus.ALLOCATED


def _is_no_rival(amphora: Amphora, tree: Tree, facts: Facts, desired: Desired) -> bool:
    """Whether one that speaks shares the VIP with a newcomer as they should: it knows it, or lost the VIP's address."""
    return _runs(amphora, tree, desired) or amphora.id in facts.without_vip


def _runs(amphora: Amphora, tree: Tree, desired: Desired) -> bool:
    return amphora.applied_generation >= tree.generation and amphora.applied_hash == desired.hashes[amphora.id]


def _given_up(amphora: Amphora, facts: Facts) -> bool:
    is_replaced_and_silent = amphora.replace_generation is not None and amphora.id in facts.silent
    return amphora.id in facts.unreachable or is_replaced_and_silent


def _fence(tree: Tree, facts: Facts, desired: Desired) -> Iterator[Step]:
    """One role at a time, so that the other half carries the traffic meanwhile; the VRRP master's comes last.

    Before it comes who cannot be told of its new peer: that one waits for its fence.
    """
    carrying, switchable = serving(tree, facts), []
    for role in tree.loadbalancer.topology.roles:
        new, old = _kept(tree, role), _unfenced(tree, role)
        peers = [a for a in carrying if a.role is not role]
        is_told = all(_is_no_rival(a, tree, facts, desired) for a in peers if _speaks(a))
        lost = [a for a in old if _given_up(a, facts)]
        if role in facts.failed or new is None or not _ready(new, facts):
            is_in_a_newcomers_way = role not in facts.failed and not all(_speaks(a) for a in peers)
            old = (lost if is_in_a_newcomers_way else []) or _in_the_way(tree, role, facts)
        elif not is_told:
            old = lost
        if old:
            order = (not lost, any(a.id == facts.vrrp_master for a in old), role is Role.MASTER)
            switchable.append((order, old))
    if switchable:
        _, old = min(switchable, key=lambda entry: entry[0])
        yield from (Step(Kind.FENCE_AMPHORA, a.id) for a in old)


def another_takes_the_vip(tree: Tree, amphora: Amphora, facts: Facts) -> bool:
    """Whether somebody else gets the VIP where it is taken from one that may still serve, and still send adverts.

    That one's own peer hears them and stays BACKUP, unless it says that it is MASTER. A newcomer is no peer of it.
    """
    lost = (*facts.silent, *facts.unreachable)
    others = (a for a in serving(tree, facts) if a.role is not amphora.role and a.id not in lost)
    return any(a.id == facts.vrrp_master or a.status is AmphoraStatus.BOOTING for a in others)


def _in_the_way(tree: Tree, role: Role, facts: Facts) -> list[Amphora]:
    """The role's old amphora where no host had room for its successor and the other half serves.

    A pair that is kept apart on two hosts has no third place: the old one has to leave first.
    """
    failure = facts.failed.get(role)
    others = [a for a in serving(tree, facts) if a.role is not role and a.id not in (*facts.silent, *facts.unreachable)]
    if failure is None or failure.code != NO_VALID_HOST or not others:
        return []
    return [a for a in _unfenced(tree, role) if a.status is AmphoraStatus.ALLOCATED]


def _boot(tree: Tree, facts: Facts) -> list[Step]:
    """Where ports are to be made, or soon will be, the VIP's is looked at first."""
    steps = list(_boots(tree, facts))
    if facts.vip_secured or not any(step.kind in (Kind.CREATE_AMPHORA, Kind.MAKE_PORTS) for step in steps):
        return steps
    later = [step for step in steps if step.kind not in (Kind.CREATE_AMPHORA, Kind.MAKE_PORTS)]
    return [*_secure(tree, facts), *later]


def _boots(tree: Tree, facts: Facts) -> Iterator[Step]:
    for role in tree.loadbalancer.topology.roles:
        new = _kept(tree, role)
        if role in facts.failed:
            continue
        if new is None:
            yield Step(Kind.CREATE_AMPHORA, role)
        elif new.status is AmphoraStatus.BOOTING and new.id not in facts.answering:
            if new.vrrp_port_id is None:
                yield Step(Kind.MAKE_PORTS, new.id)
            elif new.compute_id is None:
                if new.id not in facts.queued:
                    yield Step(Kind.BOOT_SERVER, new.id)
            elif new.id not in facts.not_yet:
                yield Step(Kind.AWAIT_AGENT, new.id)


def _removals(amphorae: Iterable[Amphora], facts: Facts) -> Iterator[Step]:
    return (Step(Kind.REMOVE_AMPHORA, a.id) for a in amphorae if a.id not in facts.leaving)


def _rotations(carrying: Iterable[Amphora], facts: Facts) -> Iterator[Step]:
    for amphora in carrying:
        expires = amphora.cert_expiration
        is_near = expires is not None and facts.rotate_before is not None and expires <= facts.rotate_before
        if is_near and _speaks(amphora) and not _given_up(amphora, facts) and amphora.id not in facts.rotated:
            yield Step(Kind.ROTATE_CERTIFICATE, amphora.id)


def _leftovers(tree: Tree, facts: Facts, desired: Desired) -> Iterator[Step]:
    gone = (AmphoraStatus.PENDING_DELETE, AmphoraStatus.ERROR)
    yield from _removals((a for a in tree.amphorae if a.status in gone), facts)
    for amphora in serving(tree, facts):
        if _runs(amphora, tree, desired):
            unused = sorted({port.subnet_id for port in member_ports(amphora)} - desired.subnet_ids)
            unplugs = (Step(Kind.UNPLUG_PORT, amphora.id, subnet_id) for subnet_id in unused)
            yield from islice((step for step in unplugs if step not in facts.undone), 1)
