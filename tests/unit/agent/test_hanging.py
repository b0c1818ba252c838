"""When a daemon that does not answer is taken for hung, and when for busy."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from tavia.agent import processes
from tavia.agent.accounts import Account
from tavia.agent.processes import PROBES, Daemon
from tavia.amphora import paths


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    monkeypatch.setattr(paths, "RUN_DIR", str(tmp_path))
    monkeypatch.setattr(processes, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(processes, "PROBE_POLL", 0.0)
    monkeypatch.setattr(Daemon, "running", True)
    return Daemon(["daemon"], "", Account("games"), lambda: None, lambda: None)


@pytest.mark.parametrize("unanswered", [0, PROBES - 1, PROBES])
def test_it_is_hung_when_so_many_probes_in_a_row_find_no_answer(unanswered: int, daemon: Daemon) -> None:
    asked = itertools.count()

    async def answers() -> bool:
        if next(asked) < unanswered:
            await asyncio.sleep(60)
        return True

    assert asyncio.run(daemon.is_hung(answers)) is (unanswered == PROBES)


def test_a_refusal_at_once_is_no_proof_before_the_time_of_a_probe_is_over(daemon: Daemon) -> None:
    """As of a socket that is just being made."""
    asked = itertools.count()

    async def answers() -> bool:
        return next(asked) >= 10

    assert not asyncio.run(daemon.is_hung(answers))


def test_one_that_refuses_for_ever_is_hung(daemon: Daemon) -> None:
    async def answers() -> bool:
        return False

    assert asyncio.run(daemon.is_hung(answers))


def test_what_has_died_meanwhile_does_not_hang(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers() -> bool:
        monkeypatch.setattr(Daemon, "running", False)
        return False

    assert not asyncio.run(daemon.is_hung(answers))
