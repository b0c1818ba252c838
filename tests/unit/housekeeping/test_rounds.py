"""Tasks run when they are due; one that fails keeps no other from running."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import Fleet

from tavia.housekeeping.service import Task, report_certificates, run_due
from tavia.model.seams import Seam, SeamError
from tavia.store.clock import utcnow


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


def test_certificates_near_their_expiry_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet.at(tmp_path)
    (near,), (far,) = fleet.add(), fleet.add()
    fleet.change(near, cert_expiration=utcnow() + timedelta(days=3))
    fleet.change(far, cert_expiration=utcnow() + timedelta(days=300))
    with caplog.at_level(logging.WARNING):
        report_certificates(fleet.database, 14 * 24 * 3600)
    assert near in caplog.text
    assert far not in caplog.text
