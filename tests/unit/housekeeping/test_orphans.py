"""Resources that no row names: reported once, removed after the grace time, never while the database is that young."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest
from fleet import Fleet
from sqlalchemy import update

from tavia.cloud.protocols import Cloud, PortSpec, ServerSpec
from tavia.housekeeping.orphans import Orphans
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus
from tavia.store import schema

GRACE = 3600.0


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet.at(tmp_path)
    make_older(fleet, 10 * GRACE)
    return fleet


@pytest.fixture
def orphans(fleet: Fleet) -> Orphans:
    cloud = Cloud(compute=fleet.cloud, networking=fleet.cloud, images=fleet.cloud)
    return Orphans(fleet.database, cloud, GRACE, "here", clock=fleet.clock)


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
        server(fleet, "no-such"),
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
    stray = port(fleet, "tavia-amphora=x")
    orphans.sweep()
    fleet.clock.now += 2 * GRACE
    orphans.sweep()
    assert stray in ids(fleet)


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    fleet: Fleet, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, stray = server(fleet, "no-such"), port(fleet, "tavia-amphora=x")

    def refuse(server_id: str) -> None:
        raise SeamError(Seam.BOOT, "locked", f"server {server_id} is locked")

    monkeypatch.setattr(fleet.cloud, "delete", refuse)
    orphans.sweep()
    fleet.clock.now += GRACE
    orphans.sweep()
    assert ids(fleet) & {stuck, stray} == {stuck}
