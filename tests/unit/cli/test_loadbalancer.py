"""``tavia loadbalancer``: why one is as it is, in a sentence, and the way out, which leaves a working worker alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trees
from sqlalchemy import select, update

from tavia import config
from tavia.bus.wake import Datagrams
from tavia.cli import loadbalancer as cli
from tavia.model.resources import LoadBalancer
from tavia.model.statuses import ProvisioningStatus
from tavia.store import history, intents, journal, leases, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database
from tavia.store.history import Criteria, Operation
from tavia.store.release import Holder, Situation

Run = Callable[..., str]

NOW = 1767323045.0
FAULT = {"seam": "boot", "code": "no-quota", "message": "no cores left", "since": "2026-01-02T03:00:00"}
AT_REST: dict[str, Any] = {"generation": 7, "attempted_generation": 7, "observed_generation": 7}


def operation(**given: Any) -> Operation:
    defaults: dict[str, Any] = {
        "id": "11111111-0000", "what": "update", "state": "running", "started": NOW - 5, "ended": None, "took": 5.0,
        "seam": None, "code": None, "reason": None, "loadbalancer_id": "lb", "loadbalancer_name": "web",
        "generation": 7, "epoch": 3, "host": "ctl-2",
    }  # fmt: skip
    return Operation(**(defaults | given))


def situation(holder: Holder | None = None, last: Operation | None = None, **given: Any) -> Situation:
    return Situation(
        now=NOW, loadbalancer=trees.loadbalancer(**given), holder=holder, last=last, last_failure=None, amphorae=()
    )


HELD = Holder(owner="nonce", until=NOW + 20, operation=operation(), progress=NOW - 1)
JUST_TAKEN = Holder(owner="nonce", until=NOW + 30, operation=None, progress=None)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            situation(provisioning_status=ProvisioningStatus.DELETED),
            "it is deleted; its row goes when load_balancer_expiry_age is over",
        ),
        (situation(provider="ovn"), "provider ovn works on it, Tavia's workers do not"),
        (situation(HELD), "a worker on ctl-2 works on it (update) since 2026-01-02 03:04:00Z"),
        (
            situation(HELD, fault=FAULT),
            "a worker on ctl-2 works on it (update) since 2026-01-02 03:04:00Z; what failed last: boot/no-quota",
        ),
        (situation(JUST_TAKEN), "a worker took it a moment ago (lease nonce)"),
        (
            situation(generation=7, attempted_generation=6, pending_since=NOW - 65),
            "it has been due for 1 min 5 s, but no worker has taken it: does one run? tavia service list",
        ),
        (
            situation(generation=7, attempted_generation=6, pending_since=NOW - 3),
            "it is due: a worker takes it at its next look",
        ),
        (
            situation(last=operation(state="lost"), **(AT_REST | {"due_at": NOW - 1})),
            "it is due, but no worker has taken it since the one on ctl-2 died or was overtaken",
        ),
        (  # an amphora boots for long: it is looked at twice a second
            situation(
                last=operation(state="waiting", ended=NOW - 1),
                **(AT_REST | {"attempted_generation": 6, "pending_since": NOW - 200}),
            ),
            "it is due: a worker takes it at its next look",
        ),
        (
            situation(last=operation(state="waiting", ended=NOW - 60), **(AT_REST | {"due_at": NOW - 59})),
            "it has been due for 59.0 s, but no worker has taken it: does one run? tavia service list",
        ),
        (
            situation(**AT_REST, due_at=NOW + 35, fault=FAULT, provisioning_status=ProvisioningStatus.ERROR),
            "it is tried again in 35.0 s; what failed last: boot/no-quota",
        ),
        (
            situation(**AT_REST, due_at=NOW + 0.5, provisioning_status=ProvisioningStatus.PENDING_CREATE),
            "it is looked at again (an amphora boots) in 0.50 s",
        ),
        (
            situation(**AT_REST, provisioning_status=ProvisioningStatus.ACTIVE),
            "all that was asked for is applied",
        ),
        (
            situation(**AT_REST, provisioning_status=ProvisioningStatus.ERROR),
            "nothing is planned for it: tavia loadbalancer release lb",
        ),
    ],
)
def test_one_sentence_says_why(found: Situation, sentence: str) -> None:
    assert cli.why(found, is_ours=found.loadbalancer.provider == "amphora") == sentence


@pytest.fixture
def lb_id(database: Database) -> str:
    made = LoadBalancer(
        id=str(uuid.uuid4()), name="web", project_id="p", created_at=utcnow(), generation=3, attempted_generation=3,
        provisioning_status=ProvisioningStatus.ERROR, fault=FAULT,
    )  # fmt: skip

    def create(conn: Any) -> None:
        intents.create_loadbalancer(conn, made)
        conn.execute(update(schema.load_balancer).values(due_at=now() + 3600))

    database.write(create)
    return made.id


def hold(database: Database, lb_id: str) -> str:
    assert database.write(lambda conn: leases.take(conn, leases.seen(conn, lb_id), "a worker", 30.0))
    return database.write(
        lambda conn: journal.open_operation(
            conn, loadbalancer_id=lb_id, what="update", generation=3, epoch=1, host="ctl-2"
        )
    )


def test_a_release_wakes_the_workers_and_says_what_to_look_at_next(
    database: Database, lb_id: str, run: Run, tmp_path: Path
) -> None:
    wakeups = Datagrams(tmp_path)
    wakeups._socket.settimeout(0.0)
    said = run("loadbalancer", "release", "web")
    assert wakeups._socket.recv(1) == b""
    wakeups.close()
    assert f"web ({lb_id}), ERROR, is handed to the workers again." in said
    assert f"tavia operation list {lb_id}" in said
    with database.read() as conn:
        row = conn.execute(select(schema.load_balancer, now().label("now"))).one()
        (event,) = history.operations(conn, Criteria(loadbalancer_id=lb_id))
    assert row.due_at <= row.now
    assert event.what == "release"


def test_who_typed_it_is_journalled_also_below_sudo(
    database: Database, lb_id: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    run("loadbalancer", "release", lb_id)
    with database.read() as conn:
        (event,) = history.operations(conn, Criteria(loadbalancer_id=lb_id))
    assert (event.reason or "").startswith("ada on ")


def test_a_held_one_is_refused_with_who_since_when_and_until_when(database: Database, lb_id: str, run: Run) -> None:
    running = hold(database, lb_id)
    error = run("loadbalancer", "release", "web", fails=True)
    assert len(error.splitlines()) == 1
    assert "nothing to release: a worker on ctl-2 works on it (update) since 20" in error
    assert f"tavia operation show {running}" in error
    with database.read() as conn:
        assert conn.execute(select(schema.load_balancer.c.due_at - now())).scalar_one() > 3000


def test_the_latest_end_of_a_lease_is_a_steps_deadline_and_a_lease_after_the_last_progress(tmp_path: Path) -> None:
    (tmp_path / "octavia.conf").write_text(
        "[health_manager]\nheartbeat_key = k\n[tavia]\nstep_deadline = 60\nlease_ttl = 30\n"
    )
    conf = config.load(["--config-file", str(tmp_path / "octavia.conf")], "tavia", [])
    text = cli.refusal(HELD, situation(HELD), conf)
    assert "Its lease ends at 2026-01-02 03:04:25Z unless it is renewed" in text
    assert "by 2026-01-02 03:05:34Z at the latest" in text


def test_it_is_shown_with_its_fault_its_next_try_and_its_last_failure(database: Database, lb_id: str, run: Run) -> None:
    found = json.loads(run("loadbalancer", "show", "web", "-f", "json"))
    assert (found["id"], found["provisioning_status"]) == (lb_id, "ERROR")
    assert found["why"].startswith("it is tried again in 59 min ")
    assert found["fault"] == "boot/no-quota since 2026-01-02T03:00:00: no cores left"
    assert found["next_try"] and found["last_failure"] is None and found["last_failure_reason"] is None
    assert "why " in run("loadbalancer", "show", "web")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": "ovn"}, "belongs to provider ovn: only that one works on it"),
        ({"provisioning_status": "DELETED"}, "is deleted: nothing is left to converge"),
    ],
)
def test_what_is_not_the_workers_to_do_is_told_in_one_line(
    database: Database, lb_id: str, run: Run, change: dict[str, Any], said: str
) -> None:
    database.write(lambda conn: conn.execute(update(schema.load_balancer).values(change)))
    error = run("loadbalancer", "release", lb_id, fails=True)
    assert said in error and len(error.splitlines()) == 1


def test_a_database_that_is_away_is_told_in_one_line_without_its_password(run: Run, config_file: Path) -> None:
    config_file.write_text(
        "[database]\nconnection = mysql+pymysql://octavia:geheim@127.0.0.1:1/octavia\n"
        "[health_manager]\nheartbeat_key = not-used\n"
    )
    for words in (("loadbalancer", "show", "web"), ("loadbalancer", "release", "web"), ("operation", "list")):
        error = run(*words, fails=True)
        assert "the database does not answer" in error and "Can't connect" in error
        assert len(error.splitlines()) == 1 and "geheim" not in error


def test_an_old_schema_is_told_in_one_line_with_the_way_on(database: Database, run: Run) -> None:
    database.write(lambda conn: conn.exec_driver_sql("update alembic_version set version_num = '0001'"))
    error = run("operation", "list", fails=True)
    assert "run tavia db upgrade" in error and len(error.splitlines()) == 1
