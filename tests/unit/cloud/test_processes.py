"""Which processes run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tavia.cloud.local.processes import Process

SPINNING = ["nice", "-n", "19", sys.executable, "-c", "print(flush=True)\nwhile True: pass"]


def test_a_process_does_not_run_from_the_moment_on_that_it_is_killed() -> None:
    """Also before it was on a processor again, which takes a while beside others of higher priority."""
    for _ in range(20):
        with subprocess.Popen(SPINNING, stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            process = Process.of(child.pid)
            assert process.alive
            os.kill(child.pid, signal.SIGKILL)
            assert not process.alive
