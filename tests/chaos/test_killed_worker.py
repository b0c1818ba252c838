"""Kill -9 a real worker before and after each of its effects on real amphorae; another one finishes its work.

The effects are enumerated, not sampled: each operation is done to one load balancer after the other, its worker killed
at the first effect, the second, and so on, until one came to its end. tests/unit/worker/test_killed_worker.py does the
same with the transactions between the effects, in memory. The workers of a few load balancers are killed at a time.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from functools import partial

import killable_worker
import pytest
from instance import Balancer, Instance, eventually
from killable_worker import UNKILLED, When

from tavia.cloud.protocols import ServerStatus

Take = Callable[[], list[Balancer]]
AT_A_TIME = 6
WEIGHTS = itertools.cycle(range(2, 200))

before_and_after = pytest.mark.parametrize("when", ["before", "after"])


@pytest.fixture(scope="module")
def standing() -> list[Balancer]:
    """Load balancers at rest, that a test may go on with."""
    return []


@pytest.fixture
def at_rest(instance: Instance, standing: list[Balancer]) -> Take:
    """Takes a few of those that are at rest, made if needed; the test may put them back."""

    def take() -> list[Balancer]:
        made = [instance.balancer("chaos") for _ in range(AT_A_TIME - len(standing))]
        for balancer in made:
            balancer.await_active()
        standing.extend(made)
        taken = standing[:AT_A_TIME]
        del standing[:AT_A_TIME]
        return taken

    return take


def killed_everywhere(
    instance: Instance, when: When, take: Take, ask: Callable[[Balancer], object]
) -> Iterator[Balancer]:
    """Load balancers of which something was asked, whose workers were then killed at one effect after the other."""
    for first in itertools.count(0, AT_A_TIME):
        batch = take()
        with instance.frozen("tavia-worker"):
            for balancer in batch:
                ask(balancer)
            ends = lives(instance, batch, when, first)
        yield from batch
        if UNKILLED in ends:
            return


def lives(instance: Instance, batch: list[Balancer], when: When, first: int) -> list[int | None]:
    """How the workers of these load balancers ended, killed at the effects from ``first`` on."""
    workers = [killable_worker.start(instance, b.id, when, first + number) for number, b in enumerate(batch)]
    for worker in workers:
        worker.join(60)
    ends = [worker.exitcode for worker in workers]
    assert set(ends) <= {-signal.SIGKILL, UNKILLED}
    assert ends[0] == -signal.SIGKILL or first > 0, "there is no effect to be killed at"
    return ends


def assert_whole(balancer: Balancer) -> None:
    """At rest with exactly what it should have; traffic flows; a further pass changes nothing."""
    instance = balancer.instance
    balancer.await_active()
    assert [a["role"] for a in balancer.amphorae()] == ["MASTER", "BACKUP"]
    processes = {server.id: instance.server_process(server.id) for server in balancer.owned_servers()}
    assert processes.keys() == {a["compute_id"] for a in balancer.amphorae()}
    assert {server.status for server in balancer.owned_servers()} == {ServerStatus.ACTIVE}
    wanted = {port for a in balancer.amphorae() for port in (a["vrrp_ip"], a["lb_network_ip"])} | {balancer.vip}
    assert {port.fixed_ips[0].ip_address for port in balancer.owned_ports()} == wanted
    balancer.await_served()

    eventually(lambda: not instance.leases(), "nobody is at work")
    passes = len(balancer.operations())
    instance.execute("UPDATE load_balancer SET due_at = 0 WHERE id = :id", id=balancer.id)
    eventually(lambda: balancer.operations()[passes:] and not instance.leases(), "a further pass")
    further = balancer.operations()[passes]
    assert further["state"] == "done"
    assert instance.rows("SELECT * FROM step WHERE operation_id = :id", id=further["id"]) == []


def is_gone(balancer: Balancer) -> bool:
    """As a client sees it, and in the cloud."""
    listed = balancer.change("GET", f"loadbalancers?id={balancer.id}")["loadbalancers"]
    return not (listed or balancer.owned_servers() or balancer.owned_ports())


@before_and_after
def test_a_creation_is_finished(instance: Instance, standing: list[Balancer], when: When) -> None:
    for first in itertools.count(0, AT_A_TIME):
        with instance.frozen("tavia-worker"):
            batch = [instance.balancer("chaos") for _ in range(AT_A_TIME)]
            ends = lives(instance, batch, when, first)
        for balancer in batch:
            assert_whole(balancer)
        standing.extend(batch)
        if UNKILLED in ends:
            return


@before_and_after
def test_an_update_is_finished(instance: Instance, standing: list[Balancer], at_rest: Take, when: When) -> None:
    def ask(balancer: Balancer) -> object:
        return balancer.change("PUT", balancer.member_path("red"), member={"weight": next(WEIGHTS)})

    for balancer in killed_everywhere(instance, when, at_rest, ask):
        assert_whole(balancer)
        standing.append(balancer)


@before_and_after
def test_a_failover_is_finished(instance: Instance, standing: list[Balancer], at_rest: Take, when: When) -> None:
    def ask(balancer: Balancer) -> object:
        return balancer.change("PUT", f"loadbalancers/{balancer.id}/failover")

    for balancer in killed_everywhere(instance, when, at_rest, ask):
        assert_whole(balancer)
        standing.append(balancer)


@before_and_after
def test_a_deletion_is_finished(instance: Instance, at_rest: Take, when: When) -> None:
    def ask(balancer: Balancer) -> object:
        return balancer.change("DELETE", f"loadbalancers/{balancer.id}?cascade=true")

    for balancer in killed_everywhere(instance, when, at_rest, ask):
        eventually(partial(is_gone, balancer), "it is gone with all that it had")
