"""Resources that no row names: reported once, removed after the grace time, never while the database is in doubt."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection
from pathlib import Path

import pytest
from fleet import Fleet
from prometheus_client import REGISTRY
from sqlalchemy import update

from tavia.cloud.protocols import Cloud, PortSpec, SecurityGroup, Server, ServerSpec, ServerStatus
from tavia.housekeeping.doubt import doubt
from tavia.housekeeping.orphans import Orphans
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus
from tavia.store import journal, orphan_removal, purge, schema
from tavia.store.orphan_removal import Past
from tavia.worker.ports import server_group_name

GRACE = 3600.0
KEPT = 7 * 24 * 3600.0
NOW = 1767323045.0


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet.at(tmp_path)
    make_older(fleet, 10 * GRACE)
    return fleet


@pytest.fixture
def orphans(fleet: Fleet) -> Orphans:
    cloud = Cloud(compute=fleet.cloud, networking=fleet.cloud, images=fleet.cloud)
    return Orphans(fleet.database, cloud, GRACE, KEPT, "here", clock=fleet.clock)


def make_older(fleet: Fleet, seconds: float) -> None:
    created = schema.deployment.c.created
    fleet.database.write(lambda conn: conn.execute(update(schema.deployment).values(created=created - seconds)))


def port(fleet: Fleet, tag: str, deployment: str | None = None) -> str:
    tags = fleet.tags if deployment is None else frozenset({f"tavia-deployment={deployment}"})
    network = fleet.cloud.networks()[0]
    return fleet.cloud.create_port(PortSpec(name="p", network_id=network.id, fixed_ips=[], tags=tags | {tag})).id


def server(fleet: Fleet, amphora_id: str) -> str:
    tags = fleet.tags | {f"tavia-amphora={amphora_id}"}
    return fleet.cloud.boot(ServerSpec(name="s", image_id=None, flavor=None, port_ids=(), files={}, tags=tags))


def stray(fleet: Fleet) -> str:
    """The server of an amphora that was deleted."""
    (amphora_id,) = fleet.add()
    fleet.change(amphora_id, status=AmphoraStatus.DELETED)
    return str(fleet.row(amphora_id).compute_id)


def sweep_until_ripe(fleet: Fleet, orphans: Orphans) -> None:
    orphans.sweep()
    fleet.clock.now += GRACE
    orphans.sweep()


def event(fleet: Fleet, what: str, loadbalancer_id: str = "") -> None:
    said = SeamError(Seam.CONTROL, "test", "something happened")
    fleet.database.write(
        lambda conn: journal.event(conn, loadbalancer_id=loadbalancer_id, what=what, failure=said, host="here")
    )


def stopped(fleet: Fleet) -> str | None:
    with fleet.database.read() as conn:
        return orphan_removal.stopped(conn)


def ids(fleet: Fleet) -> set[str]:
    return {s.id for s in fleet.cloud.servers(frozenset())} | {p.id for p in fleet.cloud.ports(frozenset())}


def test_what_a_row_names_is_left_alone(fleet: Fleet, orphans: Orphans) -> None:
    (amphora_id,) = fleet.add()
    fleet.change(
        amphora_id, status=AmphoraStatus.BOOTING, compute_id=None
    )  # the server is there before its row says so
    port(fleet, f"tavia-amphora={amphora_id}")
    port(fleet, f"tavia-loadbalancer={fleet.row(amphora_id).loadbalancer_id}")
    port(fleet, "tavia-amphora=another-deployments", deployment=str(uuid.uuid4()))
    before = ids(fleet)
    for _ in range(2):
        orphans.sweep()
        fleet.clock.now += 2 * GRACE
    assert ids(fleet) == before
    assert fleet.journal() == []


def test_orphans_are_reported_once_and_removed_after_the_grace(
    fleet: Fleet, orphans: Orphans, caplog: pytest.LogCaptureFixture
) -> None:
    (gone,) = fleet.add()
    its_server = fleet.row(gone).compute_id
    fleet.change(gone, status=AmphoraStatus.DELETED)
    strays = {
        its_server,
        stray(fleet),
        port(fleet, f"tavia-amphora={gone}"),
        port(fleet, "tavia-loadbalancer=x"),
    }
    with caplog.at_level(logging.WARNING):
        orphans.sweep()
        fleet.clock.now += GRACE - 1
        orphans.sweep()
    assert ids(fleet) >= strays
    assert sorted(code for _, code in fleet.journal()) == ["orphan-port"] * 2 + ["orphan-server"] * 2
    assert all(any(stray in r.getMessage() for r in caplog.records) for stray in strays)
    fleet.clock.now += 1
    orphans.sweep()
    assert not ids(fleet) & strays


def test_one_that_finds_an_owner_in_time_is_spared_and_its_time_begins_anew(fleet: Fleet, orphans: Orphans) -> None:
    (amphora_id,) = fleet.add()
    its_port = port(fleet, f"tavia-amphora={amphora_id}")
    for status in (AmphoraStatus.DELETED, AmphoraStatus.PENDING_DELETE, AmphoraStatus.DELETED):
        fleet.change(amphora_id, status=status)
        orphans.sweep()
        fleet.clock.now += GRACE - 1
    orphans.sweep()
    assert its_port in ids(fleet)


def test_nothing_is_removed_while_the_database_is_younger_than_the_grace(fleet: Fleet, orphans: Orphans) -> None:
    make_older(fleet, -10 * GRACE)
    left = port(fleet, "tavia-amphora=x")
    orphans.sweep()
    fleet.clock.now += 2 * GRACE
    orphans.sweep()
    assert left in ids(fleet)


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    fleet: Fleet, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = stray(fleet), port(fleet, "tavia-amphora=x")

    def refuse(server_id: str) -> None:
        raise SeamError(Seam.BOOT, "locked", f"server {server_id} is locked")

    monkeypatch.setattr(fleet.cloud, "delete", refuse)
    orphans.sweep()
    fleet.clock.now += GRACE
    orphans.sweep()
    assert ids(fleet) & {stuck, free} == {stuck}


def test_groups_go_too_but_of_groups_that_have_no_tags_only_those_of_load_balancers_known_to_be_deleted(
    fleet: Fleet, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone,), (alive,) = fleet.add(), fleet.add()
    deleted, standing = fleet.row(gone).loadbalancer_id, fleet.row(alive).loadbalancer_id
    fleet.change(gone, status=AmphoraStatus.DELETED)
    lb = schema.load_balancer
    mark = update(lb).where(lb.c.id == deleted).values(provisioning_status=ProvisioningStatus.DELETED)
    fleet.database.write(lambda conn: conn.execute(mark))
    groups = {i: fleet.tags | {f"tavia-loadbalancer={i}"} for i in (deleted, standing, "never-known")}
    security = [SecurityGroup(name=f"lb-{i}", tags=tags) for i, tags in groups.items()]
    removed: list[str] = []
    monkeypatch.setattr(fleet.cloud, "security_groups", lambda tags: [g for g in security if tags <= g.tags])
    monkeypatch.setattr(fleet.cloud, "server_groups", lambda: ["mine", *map(server_group_name, groups)])
    monkeypatch.setattr(fleet.cloud, "delete_security_group", lambda name, tags: removed.append(name))
    monkeypatch.setattr(fleet.cloud, "delete_server_group", removed.append)
    sweep_until_ripe(fleet, orphans)
    assert sorted(removed) == sorted([f"lb-{deleted}", "lb-never-known", server_group_name(deleted)])


def age(seconds: float, number: int = 0, *, busy: bool = False) -> Server:
    return Server(id=f"s{number}", name="s", status=ServerStatus.ACTIVE, created_at=NOW - seconds, busy=busy)


RELIABLE = Past(made=NOW - 10 * KEPT, went_back=False)
LONG_AGO = 2 * KEPT


@pytest.mark.parametrize(
    ("servers", "orphans", "never_known", "past", "said"),
    [
        (100, [], (), RELIABLE, None),
        (3, [age(LONG_AGO, n) for n in range(3)], (), RELIABLE, None),
        (40, [age(LONG_AGO, n) for n in range(4)], (), RELIABLE, None),
        (39, [age(LONG_AGO, n) for n in range(4)], (), RELIABLE, "4 of 39 servers"),
        (5, [age(LONG_AGO, n) for n in range(4)], (), RELIABLE, "4 of 5 servers"),
        (5, [age(LONG_AGO, n, busy=True) for n in range(4)], (), RELIABLE, None),
        (100, [age(60)], (), RELIABLE, None),
        (100, [age(KEPT - 1)], {"s0"}, RELIABLE, "server s0: so young"),
        (100, [age(KEPT + 1)], {"s0"}, RELIABLE, None),
        (100, [age(60, 1)], {"s0"}, RELIABLE, None),
        (100, [age(60)], (), Past(made=NOW - 59, went_back=False), "older than this database"),
        (100, [age(LONG_AGO)], (), Past(made=RELIABLE.made, went_back=True), "database-went-back"),
    ],
)
def test_doubt(servers: int, orphans: list[Server], never_known: Collection[str], past: Past, said: str | None) -> None:
    why = doubt(servers, orphans, never_known, past, now=NOW, kept=KEPT)
    assert why is None if said is None else said in str(why)


def test_many_unknown_servers_stop_the_removal_of_anything_which_is_said_once(
    fleet: Fleet, orphans: Orphans, caplog: pytest.LogCaptureFixture
) -> None:
    strays = {*(stray(fleet) for _ in range(4)), port(fleet, "tavia-amphora=x")}
    sweep_until_ripe(fleet, orphans)
    sweep_until_ripe(fleet, orphans)
    assert ids(fleet) >= strays
    assert "4 of 4 servers" in str(stopped(fleet))
    told = [r for r in caplog.records if "tavia orphan list" in r.getMessage()]
    assert [r.levelname for r in told] == ["ERROR"]
    assert [what for what, _ in fleet.journal()].count(orphan_removal.STOPPED) == 1
    assert REGISTRY.get_sample_value("tavia_orphan_removal_stopped") == 1


def test_it_stays_stopped_when_the_doubt_is_over_until_an_operator_says_otherwise(
    fleet: Fleet, orphans: Orphans
) -> None:
    strays = [stray(fleet) for _ in range(4)]
    sweep_until_ripe(fleet, orphans)
    for each in strays[1:]:
        fleet.cloud.delete(each)
    fleet.database.write(lambda conn: purge.purge_journal(conn, expiry_age=0.0))
    sweep_until_ripe(fleet, orphans)
    assert strays[0] in ids(fleet)
    event(fleet, orphan_removal.ALLOWED)
    orphans.sweep()
    assert strays[0] not in ids(fleet)
    assert REGISTRY.get_sample_value("tavia_orphan_removal_stopped") == 0


def test_a_server_that_this_database_never_knew_though_it_should_stops_it(fleet: Fleet, orphans: Orphans) -> None:
    """As after a restore: what was made since the backup serves."""
    since_the_backup = server(fleet, "made-since-the-backup")
    sweep_until_ripe(fleet, orphans)
    assert since_the_backup in ids(fleet)
    assert since_the_backup in str(stopped(fleet))


def test_a_database_that_went_back_since_an_operator_last_allowed_it_stops_it(fleet: Fleet, orphans: Orphans) -> None:
    for what in (journal.WENT_BACK, orphan_removal.ALLOWED):
        event(fleet, what)
        time.sleep(0.002)
    first = stray(fleet)
    sweep_until_ripe(fleet, orphans)
    assert first not in ids(fleet)
    second = stray(fleet)
    event(fleet, journal.WENT_BACK, loadbalancer_id="lb")
    event(fleet, journal.WENT_BACK, loadbalancer_id="lb")
    sweep_until_ripe(fleet, orphans)
    assert second not in ids(fleet), "what one amphora says hurts its own load balancer only"
    third = stray(fleet)
    event(fleet, journal.WENT_BACK, loadbalancer_id="another")
    sweep_until_ripe(fleet, orphans)
    assert third in ids(fleet)
    assert "database-went-back" in str(stopped(fleet))


def test_where_nothing_would_be_removed_there_is_no_doubt(fleet: Fleet, orphans: Orphans) -> None:
    event(fleet, journal.WENT_BACK)
    fleet.add()
    sweep_until_ripe(fleet, orphans)
    assert stopped(fleet) is None
