"""The ``tavia`` command itself: every word leads somewhere, help teaches, mistakes are told in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tavia.cli import preflight
from tavia.cli.main import COMMANDS, Tavia, main
from tavia.model.seams import SeamError


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_loads_and_explains_itself(words: str) -> None:
    command, _, _ = Tavia().command_manager.find_command(words.split())
    first, _, rest = (command.__doc__ or "").partition("\n\n")
    assert first.endswith(".") or not rest
    assert len(first) > 20


def test_without_words_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    listed = capsys.readouterr().out
    assert all(words in listed for words in COMMANDS)


def test_help_does_not_load_what_only_the_work_needs() -> None:
    script = (
        "import sys\n"
        "from tavia.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('sqlalchemy', 'cryptography', 'oslo_config', 'rich', 'urllib3') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_missing_instance_is_told_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tavia.cli.main", "network", "list", "--state-dir", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "start it with tavia up" in ran.stderr


def test_missing_programs_are_told_with_the_packages_that_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(preflight, "_SYSTEM_DIRECTORIES", str(tmp_path))
    with pytest.raises(
        SeamError, match="apt-get install haproxy keepalived iproute2 nftables iputils-arping util-linux"
    ):
        preflight.check()


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SeamError, match="run this as root"):
        preflight.check()


def test_this_machine_is_ready() -> None:
    preflight.check()
