"""A signal is heard, whatever the process does at that moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tavia.store import migrate

SERVICE = """
import os, signal, threading, time
from tavia.process import lifetime

class Service:
    stopping = threading.Event()

    def run(self):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        time.sleep(0.5)  # the main thread waits by then
        os.kill(os.getpid(), signal.SIGTERM)
        self.stopping.wait()

    def stop(self):
        self.stopping.set()

    def unfinished(self):
        return []

def build(conf):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    return Service()

lifetime.serve("tavia-housekeeping", ["--config-file", "{config_file}"], build)
"""
"""Its signal goes to another thread than the main one, which is not woken by it, as by one that comes just before it
waits."""


def test_a_service_stops_though_its_signal_did_not_end_the_wait_for_signals(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tavia.sqlite"
    migrate.upgrade(url)
    config_file = tmp_path / "octavia.conf"
    config_file.touch(mode=0o600)
    config_file.write_text(f"[database]\nconnection = {url}\n")
    script = SERVICE.format(config_file=config_file)
    subprocess.run([sys.executable, "-c", script], timeout=30, check=True)
