"""Tasks run when they are due; one that fails keeps no other from running."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import Fleet
from sqlalchemy import select

from tavia.housekeeping import service
from tavia.housekeeping.service import Task, run_due
from tavia.model.seams import Seam, SeamError
from tavia.store import schema
from tavia.store.clock import now, utcnow


def test_a_failing_task_is_said_and_tried_again_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    ran = []

    def fail() -> None:
        ran.append("fails")
        raise SeamError(Seam.BOOT, "cloud-away", "no answer from compute")

    tasks = [Task("The one", 0.0, fail), Task("The other", 3600.0, lambda: ran.append("works"))]
    run_due(tasks)
    run_due(tasks)
    assert ran == ["fails", "works", "fails"]
    assert "The one failed" in caplog.text
    assert "no answer from compute" in caplog.text


def test_certificates_near_their_expiry_are_handed_to_workers_some_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RENEWED_AT_ONCE", 1)
    fleet = Fleet.at(tmp_path)
    (near,), (nearer,), (far,) = fleet.add(), fleet.add(), fleet.add()
    for amphora_id, days in ((near, 3), (nearer, 2), (far, 300)):
        fleet.change(amphora_id, cert_expiration=utcnow() + timedelta(days=days))
    woken: list[int] = []

    def round_of_an_hour() -> set[str]:
        service.renew_certificates(fleet.database, 14 * 24 * 3600, lambda: woken.append(1))
        with fleet.database.read() as conn:
            due = select(schema.amphora.c.id).join(schema.load_balancer).where(schema.load_balancer.c.due_at <= now())
            return set(conn.execute(due).scalars())

    with caplog.at_level(logging.INFO):
        assert round_of_an_hour() == {nearer}
    assert near in caplog.text
    assert far not in caplog.text
    assert round_of_an_hour() == {nearer, near}
    assert round_of_an_hour() == {nearer, near}, "what waits already is left alone"
    assert len(woken) == 2
