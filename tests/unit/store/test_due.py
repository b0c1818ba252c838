"""Which load balancers want convergence, and which of them come first."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, update
from store_stand import Stand
from world import take

from tavia.model.resources import Amphora
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
from tavia.store import due, schema
from tavia.store.clock import now, utcnow
from tavia.store.leases import Lease
from tavia.store.rows import to_row

MakeStand = Callable[[], Stand]


def found(stand: Stand, *providers: str, limit: int = 10) -> list[Lease]:
    return [each.lease for each in all_found(stand, *providers, limit=limit)]


def all_found(stand: Stand, *providers: str, limit: int = 10) -> list[due.Due]:
    with stand.database.read() as conn:
        return due.due(conn, providers or ["amphora"], limit)


def is_due(stand: Stand, **values: Any) -> bool:
    stand.set(**values)
    return bool(found(stand))


def test_one_that_is_converged_is_not_due(stand: Stand) -> None:
    assert found(stand) == []


def test_a_generation_that_nobody_attempted_is_due(stand: Stand) -> None:
    stand.accept(lambda conn, g: None)
    assert [lease.loadbalancer_id for lease in found(stand)] == [stand.loadbalancer_id]


def test_a_stored_time_is_due_once_it_has_come(stand: Stand) -> None:
    assert not is_due(stand, due_at=now() + 1000.0)
    assert is_due(stand, due_at=now() - 0.001)


def test_one_whose_lease_is_held_is_not_due_and_tells_of_a_holder_that_was_lost(stand: Stand) -> None:
    stand.set(due_at=0.0)
    assert found(stand) == [Lease(stand.loadbalancer_id, "", 0)]
    assert take(stand.database, stand.loadbalancer_id, "worker", ttl=1000.0)
    assert found(stand) == []
    stand.execute(update(schema.lease).values(until=now() - 0.001))
    assert found(stand) == [Lease(stand.loadbalancer_id, "worker", 1)]


def test_one_that_is_gone_is_due_only_where_somebody_asks_for_another_look(stand: Stand) -> None:
    gone, generation = ProvisioningStatus.DELETED, stand.loadbalancer.generation
    assert not is_due(stand, provisioning_status=gone, attempted_generation=generation - 1)
    assert is_due(stand, provisioning_status=gone, attempted_generation=generation, due_at=0.0)


def test_those_of_other_providers_are_left_alone(make_stand: MakeStand) -> None:
    ours, theirs = make_stand(), make_stand()
    ours.set(due_at=0.0)
    theirs.set(due_at=0.0, provider="ovn")
    assert [lease.loadbalancer_id for lease in found(ours, "amphora", "octavia")] == [ours.loadbalancer_id]
    assert [lease.loadbalancer_id for lease in found(ours, "ovn")] == [theirs.loadbalancer_id]


def test_no_more_are_found_than_asked_for_and_each_with_its_own_lease(make_stand: MakeStand) -> None:
    stands = [make_stand() for _ in range(3)]
    for stand in stands:
        stand.set(due_at=0.0)
    assert take(stands[1].database, stands[1].loadbalancer_id, "lost", ttl=-1.0)
    epochs = {lease.loadbalancer_id: lease.epoch for lease in found(stands[0])}
    assert epochs == {stand.loadbalancer_id: int(stand is stands[1]) for stand in stands}
    assert len(found(stands[0], limit=2)) == 2


def first_of(one: Stand, other: Stand, draws: int = 60) -> Counter[str]:
    """How often each of the two comes first."""
    drawn = Counter(found(one, limit=1)[0].loadbalancer_id for _ in range(draws))
    return Counter({stand.loadbalancer_id: drawn[stand.loadbalancer_id] for stand in (one, other)})


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ({"due_at": now() - 1000.0}, {"due_at": now()}),
        ({"attempted_generation": 0, "pending_since": now() - 1000.0}, {"due_at": now()}),
        ({"due_at": now() - 1000.0}, {"attempted_generation": 0, "pending_since": now()}),
        ({"attempted_generation": 0, "pending_since": None}, {"due_at": now()}),
        ({"attempted_generation": 0, "pending_since": now() - 1000.0, "due_at": now()}, {"due_at": now()}),
    ],
    ids=["stored times", "a change and a time", "a time and a change", "nobody knows since when", "the change counts"],
)
def test_the_longer_one_has_waited_the_sooner_it_comes(
    make_stand: MakeStand, longer: dict[str, Any], shorter: dict[str, Any]
) -> None:
    long, short = make_stand(), make_stand()
    long.set(**longer)
    short.set(**shorter)
    assert first_of(long, short)[short.loadbalancer_id] < 15


def test_by_chance_so_that_workers_seldom_want_the_same(make_stand: MakeStand) -> None:
    one, other = make_stand(), make_stand()
    for stand in (one, other):
        stand.set(due_at=now() - 30.0)
    assert min(first_of(one, other).values()) > 5


def test_more_than_a_minute_of_waiting_counts_no_more_than_a_minute(make_stand: MakeStand) -> None:
    changed_without_end, other = make_stand(), make_stand()
    changed_without_end.set(attempted_generation=0, pending_since=now() - 100_000.0)
    other.set(due_at=now() - 59.0)
    assert first_of(changed_without_end, other)[other.loadbalancer_id] > 5


@pytest.mark.parametrize("whose", ["its own", "an amphora's"])
def test_one_that_is_known_to_be_in_trouble_is_marked(stand: Stand, whose: str) -> None:
    fault = {"code": "agent-timeout", "seam": "mgmt-net", "message": "nobody", "since": "2026-01-02T03:04:05Z"}
    stand.set(due_at=1.0)
    assert [each.is_troubled for each in all_found(stand)] == [False]
    if whose == "its own":
        stand.set(fault=fault)
    else:
        amphora = Amphora(
            id=str(uuid.uuid4()),
            loadbalancer_id=stand.loadbalancer_id,
            created_at=utcnow(),
            status=AmphoraStatus.DELETED,
            fault=fault,
        )
        stand.execute(insert(schema.amphora).values(to_row(amphora)))
        assert [each.is_troubled for each in all_found(stand)] == [False]
        stand.execute(update(schema.amphora).values(status=AmphoraStatus.ALLOCATED))
    assert [each.is_troubled for each in all_found(stand)] == [True]


def test_no_number_of_those_in_trouble_keeps_the_others_out_of_the_list(make_stand: MakeStand) -> None:
    for number in range(8):
        is_well = number == 7
        make_stand().set(
            due_at=now() - (1.0 if is_well else 50.0), fault=None if is_well else {"code": "agent-timeout"}
        )
    assert [each.is_troubled for each in all_found(make_stand(), limit=4)].count(False) == 1
