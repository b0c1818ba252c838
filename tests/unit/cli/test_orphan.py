"""``tavia orphan``: what belongs to nobody is listed; servers go when an operator says so, and housekeeping goes on."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import partial

import pytest
from fleet import Fleet

from tavia.cli import orphan as cli
from tavia.cloud.protocols import Cloud, PortSpec
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus
from tavia.store import journal, orphan_removal, services
from tavia.store.database import Database

Run = Callable[..., str]


@pytest.fixture
def fleet(database: Database, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(database)
    cloud = Cloud(compute=fleet.cloud, networking=fleet.cloud, images=fleet.cloud)
    monkeypatch.setattr("tavia.cloud.connect", lambda _conf: cloud)
    return fleet


def stray(fleet: Fleet) -> str:
    """The server of an amphora that was deleted."""
    (amphora_id,) = fleet.add()
    fleet.change(amphora_id, status=AmphoraStatus.DELETED)
    return str(fleet.row(amphora_id).compute_id)


def port(fleet: Fleet) -> str:
    tags = fleet.tags | {"tavia-loadbalancer=gone"}
    return fleet.cloud.create_port(PortSpec(name="p", network_id="net", fixed_ips=[], tags=tags)).id


def stop(fleet: Fleet) -> None:
    why = SeamError(Seam.CONTROL, "orphans-in-doubt", "4 of 5 servers are not known")
    fleet.database.write(
        lambda conn: journal.event(conn, loadbalancer_id="", what=orphan_removal.STOPPED, failure=why, host="here")
    )


def stopped(fleet: Fleet) -> str | None:
    with fleet.database.read() as conn:
        return orphan_removal.stopped(conn)


def test_each_is_listed_with_whom_it_was_made_for(fleet: Fleet, run: Run) -> None:
    fleet.add()
    left, vip = stray(fleet), port(fleet)
    rows = {row["id"]: row for row in json.loads(run("orphan", "list", "-f", "json"))}
    assert {i: (row["kind"], row["loadbalancer"]) for i, row in rows.items()} == {
        left: ("server", None),
        vip: ("port", "gone"),
    }
    assert rows[left]["amphora"] and rows[left]["created"].endswith("+00:00")


def test_why_nothing_is_removed_is_told_beside_housekeeping(fleet: Fleet, run: Run) -> None:
    stop(fleet)
    for name in ("tavia-housekeeping", "tavia-worker"):
        running = services.Process(
            id=name, name=name, host="ctl-1", pid=1, version="1", config_hash="h", config_group_hashes={}
        )
        fleet.database.write(partial(services.report, process=running, uptime=1.0))
    said = {row["service"]: row["stands_out"] for row in json.loads(run("service", "list", "-f", "json"))}
    assert "4 of 5 servers" in said["tavia-housekeeping"] and said["tavia-worker"] == ""


def test_the_list_says_that_nothing_is_removed_and_why(fleet: Fleet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(fleet)
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    assert json.loads(run("orphan", "list", "-f", "json")) == []
    assert "nothing of this is removed: 4 of 5 servers" in said.getvalue()


def test_all_servers_go_and_housekeeping_goes_on_with_the_rest(fleet: Fleet, run: Run) -> None:
    (serving,) = fleet.add()
    for _ in range(4):
        stray(fleet)
    vip = port(fleet)
    stop(fleet)
    assert "Servers removed: 4; housekeeping" in run("orphan", "remove", "--all")
    assert [server.id for server in fleet.cloud.servers(fleet.tags)] == [fleet.row(serving).compute_id]
    assert [each.id for each in fleet.cloud.ports(fleet.tags)] == [vip], "it may be somebody's who is being made"
    assert stopped(fleet) is None
    assert (orphan_removal.ALLOWED, "asked-by-operator") in fleet.journal()


def test_one_by_its_id_goes_and_housekeeping_stays_stopped(fleet: Fleet, run: Run) -> None:
    wanted, other = stray(fleet), stray(fleet)
    stop(fleet)
    run("orphan", "remove", wanted)
    assert [server.id for server in fleet.cloud.servers(fleet.tags)] == [other]
    assert stopped(fleet)


def test_a_server_that_belongs_to_an_amphora_is_not_removed_whoever_asks(fleet: Fleet, run: Run) -> None:
    (serving,) = fleet.add()
    left = stray(fleet)
    error = run("orphan", "remove", left, fleet.row(serving).compute_id, fails=True)
    assert "no server that belongs to nobody" in error and fleet.row(serving).compute_id in error
    assert len(fleet.cloud.servers(fleet.tags)) == 2


def test_while_compute_still_has_one_nothing_is_allowed(
    fleet: Fleet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = stray(fleet)
    stop(fleet)
    monkeypatch.setattr(cli, "GONE_WITHIN", 0.0)
    monkeypatch.setattr(fleet.cloud, "delete", lambda _id: None)
    assert left in run("orphan", "remove", "--all", fails=True)
    assert stopped(fleet)


def test_which_has_to_be_said(fleet: Fleet, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("orphan", "remove")
    assert "required" in capsys.readouterr().err
