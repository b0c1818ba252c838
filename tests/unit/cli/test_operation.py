"""``tavia operation``: a table for people, everything for programs, mistakes in one line."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import case, update

from tavia.cli import operation as cli
from tavia.cli.columns import COLOURS, Reason, State, duration, moment
from tavia.cli.main import main
from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.store import intents, journal, leases, schema
from tavia.store.clock import now, utcnow
from tavia.store.database import Database

Run = Callable[..., str]


@pytest.fixture
def lb_id(database: Database) -> str:
    made = LoadBalancer(id=str(uuid.uuid4()), name="web", project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, made))
    return made.id


def begin(database: Database, lb_id: str, what: str = "update") -> tuple[str, journal.StepRecord]:
    step = journal.StepRecord(id=str(uuid.uuid4()), what="push-bundle", seam=Seam.AGENT, subject="amphora-1")

    def work(conn: Any) -> str:
        opened = journal.open_operation(conn, loadbalancer_id=lb_id, what=what, generation=2, epoch=1, host="ctl-1")
        journal.open_steps(conn, opened, [step])
        return opened

    return database.write(work), step


def failed(database: Database, lb_id: str) -> str:
    operation, step = begin(database, lb_id)
    failure = SeamError(Seam.AGENT, "agent-timeout", "the agent at 192.0.2.1 " + "did not answer " * 10)

    def work(conn: Any) -> None:
        journal.step_failed(conn, step.id, failure)
        journal.close_operation(conn, operation, "failed", failure)

    database.write(work)
    return operation


def test_the_table_is_short_and_names_the_load_balancer(database: Database, lb_id: str, run: Run) -> None:
    operation = failed(database, lb_id)
    heading, row = run("operation", "list").splitlines()[1:4:2]
    assert [word.strip() for word in heading.strip("|").split("|")] == list(cli.LIST_COLUMNS)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == operation[:8]
    assert cells[2:5] == ["web", "update", "failed"]
    assert cells[6:8] == ["agent", "agent-timeout"]
    assert cells[8].startswith("the agent at 192.0.2.1") and cells[8].endswith("…") and len(cells[8]) <= 60


def test_programs_get_whole_ids_iso_times_and_the_whole_reason(database: Database, lb_id: str, run: Run) -> None:
    operation = failed(database, lb_id)
    (found,) = json.loads(run("operation", "list", "-f", "json"))
    assert (found["id"], found["loadbalancer"], found["host"]) == (operation, lb_id, "ctl-1")
    assert abs(datetime.fromisoformat(found["started"]).timestamp() - time.time()) < 60
    assert found["reason"].count("did not answer") == 10
    assert isinstance(found["took"], float)


def test_filters_and_pages(database: Database, lb_id: str, run: Run) -> None:
    made = [failed(database, lb_id) for _ in range(3)]
    ago = case(dict(zip(made, (2, 1, 0), strict=True)), value=schema.operation.c.id)
    database.write(lambda conn: conn.execute(update(schema.operation).values(started=now() - ago)))  # not at once

    def ids(*words: str) -> list[str]:
        return run("operation", "list", *words, "-f", "value", "-c", "id").split()

    assert ids("web") == ids(lb_id) == ids("--state", "failed", "--since", "1h") == made[::-1]
    assert ids("--limit", "2") == made[:0:-1]
    assert ids("--marker", made[1]) == [made[0]]
    assert ids("--host", "ctl-2") == ids("--state", "done") == ids("--what", "delete") == []


def test_an_operation_is_shown_with_its_steps(database: Database, lb_id: str, run: Run) -> None:
    operation = failed(database, lb_id)
    text = run("operation", "show", operation[:8])
    assert text.startswith(f"update of load balancer web ({lb_id})")
    assert f"operation {operation}, generation 2, host ctl-1" in text
    assert "agent/agent-timeout: the agent at 192.0.2.1 did not answer" in text
    step = next(line for line in text.splitlines() if line.lstrip().startswith("+0.0"))
    assert "failed" in step and "push-bundle" in step and "amphora-1" in step


def test_an_operation_that_runs_is_shown_as_far_as_it_is(database: Database, lb_id: str, run: Run) -> None:
    database.write(lambda conn: leases.take(conn, leases.seen(conn, lb_id), "worker", 30.0))
    operation, step = begin(database, lb_id)
    found = json.loads(run("operation", "show", operation, "-f", "json"))
    assert (found["state"], found["ended"]) == ("running", None)
    assert [(s["id"], s["state"], s["subject"]) for s in found["steps"]] == [(step.id, "running", "amphora-1")]
    assert ", for " in run("operation", "show", operation)
    database.write(lambda conn: conn.execute(update(schema.lease).values(until=now() - 1)))
    found = json.loads(run("operation", "show", operation, "-f", "json"))
    assert (found["state"], found["took"], found["steps"][0]["state"]) == ("lost", None, "lost")


def test_an_operation_without_steps_says_so(database: Database, lb_id: str, run: Run) -> None:
    failure = SeamError(Seam.CONTROL, "database-went-back", "[why] not markup")
    database.write(
        lambda conn: journal.event(conn, loadbalancer_id=lb_id, what="an-event", failure=failure, host="ctl-1")
    )
    (operation,) = json.loads(run("operation", "list", "-f", "json"))
    text = run("operation", "show", operation["id"])
    assert "control/database-went-back: [why] not markup" in text and "no steps" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("operation", "list", "nowhere"), "no load balancer with the id or name 'nowhere'"),
        (("operation", "list", "--marker", "nowhere"), "no operation 'nowhere'; tavia operation list"),
        (("operation", "show", "nowhere"), "no operation 'nowhere'; tavia operation list"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    error = run(*words, fails=True)
    assert said in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(("words", "said"), [(("--since", "1w"), "15m, 1h, 2d"), (("--limit", "0"), "from 1 on")])
def test_mistakes_name_what_is_allowed(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    with pytest.raises(SystemExit):
        main(["operation", "list", *words])
    assert said in capsys.readouterr().err


def test_names_that_tenants_chose_are_no_markup(database: Database, run: Run) -> None:
    made = LoadBalancer(id=str(uuid.uuid4()), name="[red]x[/]", project_id="p", created_at=utcnow())
    database.write(lambda conn: intents.create_loadbalancer(conn, made))
    operation, _ = begin(database, made.id)
    assert "[red]x[/]" in run("operation", "show", operation)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, ""),
        (0.4231, "0.42 s"),
        (7.08, "7.1 s"),
        (59.96, "60.0 s"),
        (185.0, "3 min 5 s"),
        (7800.0, "2 h 10 min"),
        (349200.0, "4 d 1 h"),
    ],
)
def test_durations_read_well(given: float | None, text: str) -> None:
    assert duration(given) == text


def test_times_read_well() -> None:
    assert (moment(1767323045.9), moment(None)) == ("2026-01-02 03:04:05Z", "")


def test_a_state_is_coloured_on_a_terminal_only() -> None:
    assert State("failed", coloured=True).human_readable() == "\033[31mfailed\033[0m"
    assert State("failed", coloured=False).human_readable() == "failed"
    assert cli.is_coloured(Console(force_terminal=True, no_color=False))
    assert not cli.is_coloured(Console(force_terminal=True, no_color=True))
    assert not cli.is_coloured(Console(force_terminal=False))
    assert set(COLOURS) == {"running", "done", "waiting", "failed", "handed-over", "lost"}


def test_a_reason_of_several_lines_is_one_in_the_table() -> None:
    assert Reason("one\ntwo").human_readable() == "one two"
    assert Reason(None).human_readable() == ""
