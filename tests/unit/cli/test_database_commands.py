"""Commands on a database find it: by --config-file, else the embedded instance's, else where services look."""

from __future__ import annotations

from pathlib import Path

import forked
import pytest

from tavia.cli.main import Tavia
from tavia.cli.setup import UpgradeDatabase
from tavia.model.seams import SeamError


def tavia(*words: str, cwd: Path) -> tuple[int, str]:
    """Its exit status, and what it said."""
    said = cwd / "said"
    return forked.start("tavia", *words, out=said, directory=cwd).wait(60), said.read_text()


def write(path: Path, database: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[database]\nconnection = sqlite:///{database}\n[health_manager]\nheartbeat_key = not-used\n")
    return path


def test_a_named_configuration_file_names_the_database(tmp_path: Path) -> None:
    path = write(tmp_path / "octavia.conf", tmp_path / "named.sqlite")
    status, said = tavia("db", "upgrade", "--config-file", str(path), cwd=tmp_path)
    assert status == 0, said
    assert (tmp_path / "named.sqlite").exists()


def test_without_one_it_is_the_embedded_instances(tmp_path: Path) -> None:
    write(tmp_path / ".tavia/state/octavia.conf", tmp_path / "embedded.sqlite")
    status, said = tavia("db", "upgrade", cwd=tmp_path)
    assert status == 0, said
    assert (tmp_path / "embedded.sqlite").exists()


def test_without_an_instance_it_is_the_services_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = write(tmp_path / "etc/octavia.conf", tmp_path / "installed.sqlite")
    monkeypatch.setattr("tavia.config.DEFAULT_CONFIG_FILES", (str(installed),))
    monkeypatch.chdir(tmp_path)
    command = UpgradeDatabase(Tavia(), None)
    found = command.conf(command.get_parser("tavia").parse_args([]))
    assert found.config_file == [str(installed)]
    with pytest.raises(SeamError, match="start it with tavia up"):
        command.conf(command.get_parser("tavia").parse_args(["--state-dir", str(tmp_path)]))


def test_a_configuration_without_a_database_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "octavia.conf"
    path.write_text("[health_manager]\nheartbeat_key = not-used\n")
    status, said = tavia("db", "upgrade", "--config-file", str(path), cwd=tmp_path)
    assert status == 1
    assert said.splitlines() == [f"tavia: {path}: [database] connection is not set"]
