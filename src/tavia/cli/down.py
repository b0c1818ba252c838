"""``tavia down``: nothing of an instance is left, whatever was killed before, and however hard."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress

from rich.console import Console

from tavia.cli import report
from tavia.cli.embedded import Embedded
from tavia.cli.progress import step, wait_until
from tavia.cli.up import locked
from tavia.cloud import local

STOP_TIMEOUT = 15.0
"""Seconds for the services to end by themselves; a worker needs them to give its leases back."""


def down(embedded: Embedded, console: Console) -> None:
    """Stop all services, remove what the local cloud made, then its files.

    Processes are found by the instance's cgroup, never by name. Raises SeamError.
    """
    with locked(embedded):
        with step(console, "services stopped"):
            _stop_supervisor(embedded)
        with step(console, "amphorae, networks and what else ran here removed"):
            local.teardown(embedded.state_dir)
        if embedded.marker.exists():
            embedded.clouds_file.unlink(missing_ok=True)
            shutil.rmtree(embedded.state_dir)
        else:
            with suppress(OSError):  # not empty: somebody else's files
                embedded.state_dir.rmdir()


def _stop_supervisor(embedded: Embedded) -> None:
    """Ask it to end; what does not listen is killed later, with the cgroup."""
    supervisor = report.read_process(embedded.supervisor_file)
    if supervisor is None:
        return
    with suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGTERM)
    wait_until(lambda: not supervisor.alive, STOP_TIMEOUT)
