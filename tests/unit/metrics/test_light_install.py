"""``pip install tavia`` and the amphora have no prometheus_client and need none."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("modules", ["tavia.cli.main, tavia.cli.instance, tavia.cli.network", "tavia.agent.service"])
def test_it_can_be_imported_without_prometheus_client(modules: str) -> None:
    program = f"import sys; sys.modules['prometheus_client'] = None; import {modules}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
