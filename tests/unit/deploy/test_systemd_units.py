"""The units that docs/install-openstack.md installs, as systemd itself reads them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tavia.config import default

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
SERVICES = ("tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping")
INSTALLED_IN = "/opt/tavia/bin"
WORST_EXPOSURE = 20
"""Tenths; systemd calls up to 2 OK."""

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


def unit(service: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / f"{service}.service")
    return parser


def installed_here(service: str, directory: Path) -> Path:
    """The unit, for the programs of this virtual environment."""
    path = directory / f"{service}.service"
    text = (UNITS / path.name).read_text()
    assert INSTALLED_IN in text
    path.write_text(text.replace(INSTALLED_IN, str(Path(sys.executable).parent)))
    return path


def test_each_controller_has_a_unit_and_nothing_else_does() -> None:
    assert {path.stem for path in UNITS.iterdir()} == set(SERVICES)


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_systemd_finds_nothing_wrong(service: str, tmp_path: Path) -> None:
    path = installed_here(service, tmp_path)
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_right_that_it_does_not_need(service: str) -> None:
    rated = ["systemd-analyze", "security", "--offline=yes", f"--threshold={WORST_EXPOSURE}", "--no-pager"]
    ran = subprocess.run([*rated, UNITS / f"{service}.service"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_the_units_differ_only_in_what_they_start(service: str) -> None:
    found, first = unit(service), unit(SERVICES[0])
    assert found["Service"].pop("ExecStart") == f"/opt/tavia/bin/{service} --config-file /etc/octavia/octavia.conf"
    del first["Service"]["ExecStart"]
    assert dict(found["Service"]) == dict(first["Service"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reloads_by_sighup_and_has_its_time_to_stop(service: str) -> None:
    told = unit(service)["Service"]
    (graceful,) = (option.default for option in default.OPTIONS if option.dest == "graceful_shutdown_timeout")
    assert int(told["TimeoutStopSec"]) > graceful
    assert told["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (told["User"], told["Restart"]) == ("octavia", "on-failure")
