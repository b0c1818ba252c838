"""``tavia`` with a database of its own, run in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import fresh_database

from tavia.cli.main import main
from tavia.store.database import Database

Run = Callable[..., str]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "octavia.conf"


@pytest.fixture
def database(tmp_path: Path, config_file: Path) -> Iterator[Database]:
    made = fresh_database(tmp_path)
    config_file.write_text(
        f"[database]\nconnection = {made.engine.url}\n[health_manager]\nheartbeat_key = not-used\n"
        f"[tavia]\nstate_dir = {tmp_path}\n"
    )
    yield made
    made.engine.dispose()


@pytest.fixture
def run(
    database: Database, config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """What a command prints when it works on the database; with ``fails`` what it says to standard error."""

    def run(*words: str, fails: bool = False) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(logging.root, "handlers", [])  # cliff's would outlive this test's standard error
            failed = main([*words, "--config-file", str(config_file)])
        said = capsys.readouterr()
        assert bool(failed) is fails, said.err
        return said.err if fails else said.out

    return run
