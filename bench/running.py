"""What a load balancer costs and withstands: outages, memory, throughput."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise

from bench import load
from bench.figures import Figure
from bench.stand import BACKENDS, HAND, MEMBER_PORTS, VIP_PORT, Amphora, Balancer, Stand

BEFORE, AFTER = 1.0, 1.0
"""Seconds that a client is served before the kill, and again after the outage."""
CONNECTIONS = 64
ROUND_SECONDS = 2

HAND_CONFIG = f"""\
global
    nbthread {os.cpu_count()}
    user haproxy
    group haproxy
defaults
    mode http
    timeout client 50s
    timeout connect 5s
    timeout server 50s
frontend http
    bind :{VIP_PORT}
    default_backend members
backend members
    balance roundrobin
    server one {BACKENDS[0]}:{MEMBER_PORTS[0]}
    server two {BACKENDS[1]}:{MEMBER_PORTS[0]}
"""
"""The settings that were found to be the fastest (namespaces 3a): as many threads as processors, keep-alive, no log."""


def outage(stand: Stand, advert: str, judged: bool, repeats: int) -> Iterator[Figure]:
    """For how long a client with a new connection every 10 ms is not served; adverts in seconds."""
    stand.configure("keepalived_vrrp", "vrrp_advert_int", advert)
    kinds: Sequence[tuple[str, float, Callable[[Amphora], frozenset[int]]]] = (
        ("everything in the MASTER amphora", 500, lambda master: master.pids),
        ("the MASTER's HAProxy alone", 150, lambda master: master.pids_of("haproxy")),
    )
    with stand.balancer("ACTIVE_STANDBY") as balancer:
        for victims, goal, pids_of in kinds:
            samples = [1000 * _outage(stand, balancer, pids_of) for _ in range(repeats)]
            yield Figure(
                what=f"outage after kill -9 of {victims}, adverts every {advert} s",
                unit="ms",
                goal=goal if judged else None,
                samples=samples,
            )
    stand.configure("keepalived_vrrp", "vrrp_advert_int", "0.1")


def _outage(stand: Stand, balancer: Balancer, pids_of: Callable[[Amphora], frozenset[int]]) -> float:
    stand.await_whole(balancer)
    (master,) = (a for a in stand.amphorae(balancer) if a.vrrp_state == "MASTER")
    with stand.asking("steady", balancer.vip) as client:
        time.sleep(BEFORE)
        killed = time.monotonic()
        for pid in pids_of(master):
            with suppress(ProcessLookupError):  # PID 1 took it along
                os.kill(pid, signal.SIGKILL)
        stand.await_successor(balancer, master)
        time.sleep(AFTER)
        asked: list[tuple[float, bool]] = json.loads(client.communicate()[0])
    served = [begun for begun, is_served in asked if is_served]
    if not served or served[0] > killed or served[-1] < killed + AFTER / 2:
        told = [(round(begun - killed, 2), is_served) for begun, is_served in asked[::10]]
        raise RuntimeError(f"the client was not served before and after the kill: {told}")
    return max(later - earlier for earlier, later in pairwise(served))


def memory(stand: Stand, repeats: int) -> Iterator[Figure]:
    """PSS of all processes of an amphora that serves nobody at the moment."""
    for topology in ("SINGLE", "ACTIVE_STANDBY"):
        with ExitStack() as stack:
            balancers = [stack.enter_context(stand.balancer(topology)) for _ in range(repeats)]
            samples = [sum(map(_pss, a.pids)) / 1024 for balancer in balancers for a in stand.amphorae(balancer)]
        yield Figure(what=f"memory of an idle amphora, {topology}", unit="MiB", goal=32, samples=samples)


def _pss(pid: int) -> int:
    """KiB, from proc(5)'s smaps_rollup."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:  # noqa: PTH123
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def throughput(stand: Stand, rounds: int) -> Iterator[Figure]:
    """Requests per second through the VIP, as a share of what HAProxy started by hand does; who begins alternates."""
    stand.start("hand", HAND, stand.haproxy("hand", HAND_CONFIG))
    with stand.balancer("SINGLE") as balancer:
        second = {"member": stand.member(MEMBER_PORTS[0], BACKENDS[1])}
        stand.api.call("POST", f"/lbaas/pools/{balancer.pool_id}/members", second)
        stand.await_active(balancer)
        measured: dict[str, list[float]] = {balancer.vip: [], HAND: []}
        for number in range(rounds):
            for address in sorted(measured, reverse=bool(number % 2)):
                measured[address].append(_requests_per_second(stand, address))
    ours, theirs = measured[balancer.vip], measured[HAND]
    figure = Figure(
        what="throughput through the VIP / of HAProxy by hand",
        unit="",
        goal=0.97,
        at_least=True,
        samples=[a / b for a, b in zip(ours, theirs, strict=True)],
    )
    yield figure
    yield Figure(what="requests per second through the VIP", unit="", samples=ours)
    yield Figure(what="requests per second of HAProxy by hand", unit="", samples=theirs)


def _requests_per_second(stand: Stand, address: str) -> float:
    with load.running(stand, address, connections=CONNECTIONS, seconds=ROUND_SECONDS) as client:
        counted = load.finish(client, now=False)
    if counted.failed:
        raise RuntimeError(f"{counted.failed} of {counted.requests} requests to {address} failed")
    return counted.per_second
