"""How fast a change applies, and whether anyone notices: creation, members, bursts, changes under load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench import load
from bench.figures import Figure
from bench.stand import BACKENDS, MEMBER_PORTS, Balancer, Stand, found

BURST = 100
KEPT = 3
"""Added members that stay while a later one is added."""


def create(stand: Stand, topology: str, goal: float, repeats: int) -> Iterator[Figure]:
    """From the one POST of the whole tree to the first answer."""
    stand.choose(topology)
    samples = []
    for _ in range(repeats):
        vip = stand.free_vip()
        with stand.asking("first", vip, "") as asker:
            begun = time.monotonic()
            balancer = stand.create(vip)
            samples.append(found(asker) - begun)
        stand.await_whole(balancer)
        stand.delete(balancer)
    yield Figure(what=f"POST of a {topology} load balancer -> a request served", unit="s", goal=goal, samples=samples)


def member(stand: Stand, repeats: int) -> Iterator[Figure]:
    """From the POST to the new member's first answer, by the same HAProxy worker."""
    samples = []
    with stand.balancer("SINGLE") as balancer:
        (amphora,) = stand.amphorae(balancer)
        workers = amphora.pids_of("haproxy")
        for port in MEMBER_PORTS[1 : repeats + 1]:
            with stand.asking("first", balancer.vip, str(port)) as asker:
                begun = time.monotonic()
                _add(stand, balancer, port)
                samples.append(found(asker) - begun)
            stand.await_active(balancer)
        (amphora,) = stand.amphorae(balancer)
        reloaded = amphora.pids_of("haproxy") != workers
    yield Figure(
        what="member POST -> it serves its first request", unit="ms", goal=200, samples=[1000 * s for s in samples]
    )
    yield Figure(what="reloads of HAProxy for those members", unit="", goal=0, samples=[reloaded])


def burst(stand: Stand, repeats: int) -> Iterator[Figure]:
    """100 POSTs in a row."""
    times, convergences, posts = [], [], []
    for _ in range(repeats):
        with stand.balancer("SINGLE") as balancer:
            pushes = stand.pushes(balancer)
            with stand.asking("all", balancer.vip, str(BURST + 1)) as asker:
                begun = time.monotonic()
                for port in MEMBER_PORTS[1 : BURST + 1]:
                    _add(stand, balancer, port)
                posts.append(time.monotonic() - begun)
                times.append(found(asker) - begun)
            stand.await_active(balancer)
            convergences.append(stand.pushes(balancer) - pushes)
    yield Figure(what=f"{BURST} members POSTed one by one -> all serve", unit="s", goal=2, samples=times)
    yield Figure(what="convergences for them", unit="", goal=10, samples=convergences)
    yield Figure(what="the POSTs alone", unit="s", samples=posts)


def under_load(stand: Stand, rounds: int) -> Iterator[Figure]:
    """In each round a member is added, one gets another weight and one goes; in every fourth the listener changes."""
    with stand.balancer("SINGLE") as balancer, ExitStack() as running:
        clients = [
            running.enter_context(load.running(stand, balancer.vip, connections=8, keep_alive=keep))
            for keep in (True, False)
        ]
        members: list[str] = []
        for number in range(rounds):
            members.append(_add(stand, balancer, MEMBER_PORTS[1 + number], BACKENDS[number % 2]))
            _put(stand, f"/lbaas/pools/{balancer.pool_id}/members/{members[0]}", "member", {"weight": 2 + number % 9})
            if len(members) > KEPT:
                stand.api.call("DELETE", f"/lbaas/pools/{balancer.pool_id}/members/{members.pop(1)}")
            if number % 4 == 0:
                _put(stand, f"/lbaas/listeners/{balancer.listener_id}", "listener", _listener_change(number))
            stand.await_active(balancer)
        results = [load.finish(client) for client in clients]
    for kind, result in zip(("keep-alive", "new-connection"), results, strict=True):
        yield Figure(
            what=f"failed requests, {kind} clients, while members and listeners change",
            unit="",
            goal=0,
            samples=[result.failed],
            note=f"{result.requests} requests; {rounds} members added, {rounds} weighed, {rounds - KEPT} removed; "
            f"{(rounds + 3) // 4} listener changes",
        )


def _listener_change(number: int) -> dict[str, object]:
    return {"timeout_client_data": 50_000 + number}


def _add(stand: Stand, balancer: Balancer, port: int, backend: str = BACKENDS[0]) -> str:
    path = f"/lbaas/pools/{balancer.pool_id}/members"
    made: str = stand.api.call("POST", path, {"member": stand.member(port, backend)})["member"]["id"]
    return made


def _put(stand: Stand, path: str, word: str, values: dict[str, object]) -> None:
    stand.api.call("PUT", path, {word: values})
