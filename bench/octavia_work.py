"""What is compared: whole trees, members, bursts of both, lists, and what runs while nobody asks for anything.

All of it is allowed by both: where Octavia refuses a change while another is in progress, changes go to different load
balancers, but in the one row that is about just that.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from operator import attrgetter

from bench.octavia_comparison import EIGHTH, Comparison
from bench.octavia_sides import Json, Side
from bench.octavia_stand import PROJECT, Stand, Usage

TREES, TREES_AT_ONCE, MEMBERS, MEMBERS_AT_ONCE = 5, 50, 10, 20
"""In one round. The members of a round go to so many different load balancers, those at once to a single one."""
STATEMENTS_OF_TREE, STATEMENTS_OF_MEMBER = 60, 25
"""The goals."""
CONFLICT, CONFLICT_PAUSE = 409, 0.05
"""Seconds before a request that was refused because another change is in progress is sent again."""
LISTED_MEMBERS, LISTED_BALANCERS, LIST_REPEATS = 1000, 200, 5
IDLE_SECONDS = 20.0

_ports = count(1000)


class Trees:
    """As many load balancers of each system, to which everything has been done once before anything is measured."""

    def __init__(self, stand: Stand) -> None:
        self._of = {side.name: [stand.create_tree(side) for _ in range(MEMBERS)] for side in stand.sides}
        for side in stand.sides:
            stand.await_all_active(side)
        for _ in range(2):  # the processes of an API take turns as chance wants it
            for side in stand.sides:
                for made in self.of(side):
                    _add_member(stand, side, made)

    def of(self, side: Side) -> Sequence[Json]:
        """What the POST of each answered."""
        return self._of[side.name]


def tree(stand: Stand, _trees: Trees, rounds: int) -> Iterator[Comparison]:
    """One at a time."""

    def work(side: Side, seconds: list[float]) -> None:
        for _ in range(TREES):
            begun = time.monotonic()
            stand.await_active(side, stand.create_tree(side)["id"])
            seconds.append(time.monotonic() - begun)

    seconds, usages = _measured(stand, rounds, work)
    yield _compared("whole tree in one POST -> ACTIVE, one after the other", "s", seconds, EIGHTH)
    yield from _costs("for a whole tree", TREES, usages, STATEMENTS_OF_TREE)


def trees(stand: Stand, _trees: Trees, rounds: int) -> Iterator[Comparison]:
    """Each by a client of its own."""

    def work(side: Side, seconds: list[float]) -> None:
        begun = time.monotonic()
        with ThreadPoolExecutor(TREES_AT_ONCE) as clients:
            list(clients.map(lambda _: stand.create_tree(side), range(TREES_AT_ONCE)))
        stand.await_all_active(side)
        seconds.append(time.monotonic() - begun)

    seconds, usages = _measured(stand, rounds, work)
    yield _compared(f"{TREES_AT_ONCE} whole trees POSTed at once -> all ACTIVE", "s", seconds, EIGHTH)
    yield from _costs("for each of these trees", TREES_AT_ONCE, usages)


def member(stand: Stand, trees: Trees, rounds: int) -> Iterator[Comparison]:
    """One at a time."""
    answers: dict[str, list[float]] = defaultdict(list)

    def work(side: Side, seconds: list[float]) -> None:
        for made in trees.of(side):
            begun = time.monotonic()
            answered = _add_member(stand, side, made)
            seconds.append(time.monotonic() - begun)
            answers[side.name].append(1000 * (answered - begun))

    seconds, usages = _measured(stand, rounds, work)
    yield _compared("member POST -> member and load balancer ACTIVE, one after the other", "s", seconds, EIGHTH)
    yield _compared("answer of the API to a member POST", "ms", answers)
    yield from _costs("for a member", MEMBERS, usages, STATEMENTS_OF_MEMBER)


def _add_member(stand: Stand, side: Side, made: Json) -> float:
    """Return when it is ACTIVE; the time at which the API answered."""
    posted = side.call("POST", _members_of(made), _member())["member"]["id"]
    answered = time.monotonic()
    stand.await_active(side, made["id"], posted)
    return answered


def members(stand: Stand, trees: Trees, rounds: int) -> Iterator[Comparison]:
    """One client that does not wait for ACTIVE, and sends again what was refused because of that."""
    refused: dict[str, list[float]] = defaultdict(list)

    def work(side: Side, seconds: list[float]) -> None:
        made = trees.of(side)[0]
        begun = time.monotonic()
        refused[side.name].append(sum(_insist(side, _members_of(made), _member()) for _ in range(MEMBERS_AT_ONCE)))
        stand.await_all_active(side)
        seconds.append(time.monotonic() - begun)

    seconds, usages = _measured(stand, rounds, work)
    what = f"{MEMBERS_AT_ONCE} members POSTed to one load balancer without waiting -> all ACTIVE"
    yield _compared(what, "s", seconds, EIGHTH)
    note = f"409, sent again after {1000 * CONFLICT_PAUSE:.0f} ms"
    yield _compared("POSTs refused for these members", "", refused, note=note)
    yield from _costs("for each of these members", MEMBERS_AT_ONCE, usages)


def _insist(side: Side, path: str, body: Json) -> int:
    """How often it was refused before it was accepted."""
    refusals = 0
    while (answer := side.request("POST", path, body)).status == CONFLICT:
        refusals += 1
        time.sleep(CONFLICT_PAUSE)
    if answer.status >= 400:
        raise RuntimeError(f"{side.name}: POST {path}: {answer.status} {answer.data.decode()}")
    return refusals


def lists(stand: Stand, _trees: Trees, rounds: int) -> Iterator[Comparison]:
    """What the API answers when many are asked for."""
    pools = {}
    for side in stand.sides:
        made = stand.create_tree(side)
        stand.await_active(side, made["id"])
        stand.copy_members(side, made["pools"][0]["id"], LISTED_MEMBERS)
        pools[side.name] = _members_of(made)
    balancers = min(
        LISTED_BALANCERS, *(len(side.call("GET", "/lbaas/loadbalancers")["loadbalancers"]) for side in stand.sides)
    )

    def ask(path_of: Callable[[Side], str], word: str, expected: int, side: Side, milliseconds: list[float]) -> None:
        for _ in range(LIST_REPEATS):
            begun = time.monotonic()
            found = side.call("GET", path_of(side))[word]
            milliseconds.append(1000 * (time.monotonic() - begun))
            if len(found) != expected:
                raise RuntimeError(f"{side.name} lists {len(found)} {word} instead of {expected}")

    asked = partial(ask, lambda side: pools[side.name], "members", LISTED_MEMBERS)
    note = "rows copied from one member's in the database"
    yield _compared(f"list of {LISTED_MEMBERS} members", "ms", _measured(stand, rounds, asked)[0], note=note)
    asked = partial(ask, lambda _: f"/lbaas/loadbalancers?limit={balancers}", "loadbalancers", balancers)
    yield _compared(f"list of {balancers} load balancers", "ms", _measured(stand, rounds, asked)[0])


def idle(stand: Stand) -> Iterator[Comparison]:
    """Always measured: the other rows need it."""
    usage = {name: [used] for name, used in stand.idle(IDLE_SECONDS).items()}
    cpu = _each(usage, lambda used: 1000 * used.cpu)
    yield _compared("processor time of its processes while nobody asks for anything", "ms/s", cpu)
    statements = _each(usage, lambda used: used.statements)
    yield _compared("statements while nobody asks for anything", "/s", statements)


def _measured(
    stand: Stand, rounds: int, work: Callable[[Side, list[float]], None]
) -> tuple[dict[str, list[float]], dict[str, list[Usage]]]:
    """The times that ``work`` noted, and what it took in each round, both by the side's name."""
    times: dict[str, list[float]] = defaultdict(list)
    usages: dict[str, list[Usage]] = defaultdict(list)
    for side in stand.turns(rounds):
        usages[side.name].append(stand.usage(side, partial(work, side, times[side.name])))
    return times, usages


def _costs(
    what: str, operations: int, usages: Mapping[str, Sequence[Usage]], statements_goal: float | None = None
) -> Iterator[Comparison]:
    """One sample a round, of each operation's share."""
    for whose, value, ratio_goal in (
        ("its processes", attrgetter("cpu"), EIGHTH),
        ("MariaDB", attrgetter("mariadb"), None),
        ("RabbitMQ", attrgetter("rabbitmq"), None),
    ):
        samples = {name: [1000 * each / operations for each in found] for name, found in _each(usages, value).items()}
        yield _compared(f"processor time of {whose} {what}", "ms", samples, ratio_goal)
    samples = _each(usages, lambda used: used.statements / operations)
    yield _compared(f"statements {what}", "", samples, goal=statements_goal)


def _each(usages: Mapping[str, Sequence[Usage]], value: Callable[[Usage], float]) -> dict[str, list[float]]:
    return {name: [value(used) for used in each] for name, each in usages.items()}


def _compared(
    what: str,
    unit: str,
    samples: Mapping[str, Sequence[float]],
    ratio_goal: float | None = None,
    *,
    goal: float | None = None,
    note: str = "",
) -> Comparison:
    tavia, octavia = samples["Tavia"], samples["Octavia"]
    return Comparison(what=what, unit=unit, tavia=tavia, octavia=octavia, ratio_goal=ratio_goal, goal=goal, note=note)


def _members_of(made: Json) -> str:
    return f"/lbaas/pools/{made['pools'][0]['id']}/members"


def _member() -> Json:
    return {"member": {"address": "192.0.2.200", "protocol_port": next(_ports), "project_id": PROJECT}}
