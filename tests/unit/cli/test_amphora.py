"""``tavia amphora list``: every amphora, and which ones are of an image that is no longer the newest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet import Fleet

from tavia.cli.amphora import is_outdated
from tavia.cloud.noop import NoopCloud
from tavia.model.statuses import Topology
from tavia.store.database import Database

Run = Callable[..., str]

NEWEST = NoopCloud().image_id("amphora", None)
NOOP = "".join(f"{face}_driver = {face}_noop_driver\n" for face in ("compute", "network", "image"))


@pytest.fixture
def fleet(database: Database, config_file: Path) -> Fleet:
    with config_file.open("a") as conf:
        conf.write(f"[controller_worker]\namp_image_tag = amphora\n{NOOP}")
    return Fleet(database)


def listed(run: Run, *words: str) -> dict[str, dict[str, str | None]]:
    return {row["id"]: row for row in json.loads(run("amphora", "list", "-f", "json", *words))}


@pytest.mark.parametrize(
    ("image_id", "newest", "outdated"),
    [("old", "new", True), ("new", "new", False), (None, "new", None), ("old", None, None)],
)
def test_outdated_is_who_has_another_image_than_the_newest(
    image_id: str | None, newest: str | None, outdated: bool | None
) -> None:
    assert is_outdated(image_id, newest) is outdated


def test_all_are_listed_with_their_load_balancer_and_what_their_agents_say(fleet: Fleet, run: Run) -> None:
    master, backup = fleet.add(Topology.ACTIVE_STANDBY, image_id=NEWEST)
    fleet.heard(master, agent_version="0.1.0")
    rows = listed(run)
    assert {row: (rows[row]["role"], rows[row]["agent_version"], rows[row]["outdated"]) for row in rows} == {
        master: ("MASTER", "0.1.0", "no"),
        backup: ("BACKUP", None, "no"),
    }
    assert rows[master]["loadbalancer"] and rows[master]["lb_network_ip"] == "192.0.2.1"


def test_outdated_lists_only_those_of_an_older_image(fleet: Fleet, run: Run) -> None:
    (old,) = fleet.add(image_id="an-older-image")
    fleet.add(image_id=NEWEST)
    assert {i: row["outdated"] for i, row in listed(run, "--outdated").items()} == {old: "yes"}


def test_a_cloud_that_does_not_answer_leaves_the_list_but_not_who_is_outdated(
    fleet: Fleet, run: Run, config_file: Path
) -> None:
    (amphora_id,) = fleet.add(image_id="an-older-image")
    config_file.write_text(
        config_file.read_text().replace("image_noop_driver", "image_glance_driver")
        + "[service_auth]\nauth_type = password\nauth_url = http://127.0.0.1:1/v3\nusername = octavia\n"
        "password = geheim\nproject_name = service\nuser_domain_name = Default\nproject_domain_name = Default\n"
    )
    assert listed(run)[amphora_id]["outdated"] is None
    error = run("amphora", "list", "--outdated", fails=True)
    assert "127.0.0.1:1" in error.splitlines()[-1] and "geheim" not in error
