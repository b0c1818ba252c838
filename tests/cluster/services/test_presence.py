"""Every service is listed while it lives, shown as down when it died, and gone when it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cliff.columns import FormattableColumn
from controllers import Controllers, Service, controllers
from instance import eventually
from mariadb import MariaDb

from tavia.cli.main import Tavia
from tavia.cli.service import ListServices

QUICK = {"tavia": {"service_report_interval": "0.3", "service_down_time": "4"}}
KINDS = ["tavia-api", "tavia-health-manager", "tavia-housekeeping", "tavia-worker", "tavia-worker"]
Listed = list[dict[str, Any]]


@pytest.fixture
def stand(tmp_path: Path, connection: str) -> Iterator[Controllers]:
    with controllers(
        tmp_path, connection, apis=1, workers=2, health_managers=1, housekeepers=1, settings=QUICK
    ) as made:
        yield made


def listed(stand: Controllers) -> Listed:
    """What it lists, without the time that its process takes to start."""
    command = ListServices(Tavia(), None)
    config_file = str(stand.services[0].config_file)
    columns, rows = command.take_action(command.get_parser("tavia").parse_args(["--config-file", config_file]))
    return [dict(zip(columns, map(_for_programs, row), strict=True)) for row in rows]


def _for_programs(value: Any) -> Any:
    return value.machine_readable() if isinstance(value, FormattableColumn) else value


def row(stand: Controllers, service: Service) -> dict[str, Any] | None:
    return next((row for row in listed(stand) if row["host"] == service.name), None)


def shows(stand: Controllers, service: Service, **wanted: str) -> bool:
    found = row(stand, service)
    return found is not None and wanted.items() <= found.items()


def test_services_are_listed_while_they_live_and_down_when_they_died(stand: Controllers, mariadb: MariaDb) -> None:
    eventually(lambda: [r["service"] for r in listed(stand)] == KINDS, "all five are listed")
    assert {row["state"] for row in listed(stand)} == {"up"}
    assert {row["stands_out"] for row in listed(stand)} == {""}
    assert len({row["configuration"] for row in listed(stand)}) == 1

    dead, stopped = stand.named("tavia-worker")
    dead.kill()
    assert stopped.stop() == 0
    assert row(stand, stopped) is None
    eventually(lambda: shows(stand, dead, state="down"), "the dead one is down")
    assert "| down  |" in stopped.tavia("service", "list")
    as_json = json.loads(stopped.tavia("service", "list", "-f", "json"))
    assert [r["state"] for r in as_json if r["host"] == dead.name] == ["down"]
    assert row(stand, stand.named("tavia-housekeeping")[0]), "and the others are still there"


def test_a_child_of_the_api_that_dies_is_no_event_and_its_arbiters_end_is(stand: Controllers) -> None:
    (api,) = stand.named("tavia-api")
    before = eventually(lambda: row(stand, api), "the API is listed")
    for child in psutil.Process(api.pid).children():
        child.kill()
    eventually(lambda: len(psutil.Process(api.pid).children()) == 2, "the children are replaced")
    eventually(lambda: row(stand, api)["last_seen"] > before["last_seen"], "the row is renewed")  # type: ignore[index]
    assert row(stand, api)["since"] == before["since"]  # type: ignore[index]
    assert api.stop() == 0
    assert row(stand, api) is None


def test_a_node_that_is_configured_otherwise_is_named_with_its_groups(stand: Controllers) -> None:
    odd, _ = stand.named("tavia-worker")
    odd.configure({"health_manager": {"heartbeat_key": "another"}, "keepalived_vrrp": {"vrrp_advert_int": "2"}})
    odd.stop()
    odd.start()
    eventually(
        lambda: shows(stand, odd, stands_out="configuration differs in [health_manager], [keepalived_vrrp]"),
        "it is named",
    )
    others = [r for r in listed(stand) if r["host"] != odd.name]
    # keepalived's options are the workers' alone: where two differ nobody has the majority
    assert {r["stands_out"] for r in others} == {"", "configuration differs in [keepalived_vrrp]"}


def test_a_node_that_runs_another_version_is_named(
    stand: Controllers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, _ = stand.named("tavia-worker")
    eventually(lambda: [r["service"] for r in listed(stand)] == KINDS, "all five are listed")
    (version,) = {r["version"] for r in listed(stand)}
    assert odd.stop() == 0
    older = tmp_path / "tavia-0.0.1.dist-info"
    older.mkdir()
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: tavia\nVersion: 0.0.1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    odd.start()
    eventually(lambda: shows(stand, odd, version="0.0.1", stands_out="other version"), "it is named")
    monkeypatch.undo()
    assert {(r["version"], r["stands_out"]) for r in listed(stand) if r["host"] != odd.name} == {(version, "")}
    assert "other version" in odd.tavia("service", "list")


def test_the_hash_follows_a_reload(stand: Controllers) -> None:
    (api,) = stand.named("tavia-api")
    before = eventually(lambda: row(stand, api), "the API is listed")["configuration"]
    api.configure({"controller_worker": {"loadbalancer_topology": "ACTIVE_STANDBY"}})
    api.hang_up()
    eventually(lambda: shows(stand, api, stands_out="configuration differs in [controller_worker]"), "it is named")
    assert row(stand, api)["configuration"] != before  # type: ignore[index]


def test_an_outage_of_the_database_ends_no_service_and_purged_rows_are_made_again(
    stand: Controllers, mariadb: MariaDb
) -> None:
    eventually(lambda: len(listed(stand)) == len(KINDS), "all are listed")
    database = stand.connection.rsplit("/", 1)[1].split("?")[0]
    mariadb.stop()
    try:
        eventually(
            lambda: all("cannot say that it is there" in s.log.read_text() for s in stand.services), "all notice it"
        )
    finally:
        mariadb.run()
    mariadb.sql("DELETE FROM service", database=database)
    eventually(lambda: len(listed(stand)) == len(KINDS), "all are listed again")
    assert all(service.running for service in stand.services)
