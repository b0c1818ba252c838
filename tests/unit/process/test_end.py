"""The end of a process: what is on its way out still gets out, and nothing that hangs keeps it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tavia.store import migrate

SERVICE = """
import atexit, os, signal, threading, time
from tavia.bus.outbox import Outbox
from tavia.process import lifetime

lifetime.LEAVE_SECONDS = 1.0
outbox = Outbox("words", lambda word: (time.sleep({seconds}), print(word, flush=True)), limit=10)
atexit.register(outbox.drain, 60.0)

class Service:
    stopping = threading.Event()

    def run(self):
        outbox.offer("the last word")
        os.kill(os.getpid(), signal.SIGTERM)
        self.stopping.wait()

    def stop(self):
        self.stopping.set()

    def unfinished(self):
        return []

lifetime.serve("tavia-housekeeping", ["--config-file", "{config_file}"], lambda conf: Service())
"""


@pytest.mark.parametrize(("seconds", "said"), [(0.3, True), (60, False)])
def test_a_message_on_its_way_has_a_moment_to_get_out(tmp_path: Path, seconds: float, said: bool) -> None:
    url = f"sqlite:///{tmp_path}/tavia.sqlite"
    migrate.upgrade(url)
    config_file = tmp_path / "octavia.conf"
    config_file.touch(mode=0o600)
    config_file.write_text(f"[database]\nconnection = {url}\n")
    script = SERVICE.format(seconds=seconds, config_file=config_file)
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert ("the last word" in ended.stdout) is said
    assert time.monotonic() - began < 30, "who hangs keeps nobody"
