"""A local cloud's daemon that makes nothing and takes its time: for workers that are told to stop during a step.

It has the real one's socket and wire format; the tests of tests/local use the real one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tavia.cloud.local import wire
from tavia.cloud.local.instance import Instance
from tavia.cloud.local.service import _Server
from tavia.cloud.protocols import ServerSpec

SETTINGS = {"controller_worker": {"compute_driver": "compute_local_driver"}}
"""For a worker whose servers come from here."""


@dataclass
class SlowCloud:
    """``boots`` are the servers asked for; no boot is answered before ``go_on`` is set."""

    boots: list[ServerSpec] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def boot(self, arguments: Mapping[str, Any]) -> str:
        self.boots.append(wire.server_spec(arguments["spec"]))
        self.go_on.wait()
        return "a-server"

    def agent_config(self, number: int = -1) -> str:
        """What the agent of a server was to be given."""
        return self.boots[number].files["/etc/octavia/amphora-agent.conf"].decode()


@contextmanager
def slow_cloud(state_dir: Path) -> Iterator[SlowCloud]:
    """Serve on the socket of this state directory."""
    cloud = SlowCloud()
    calls = {"boot": cloud.boot, "servers": lambda _: [], "server": lambda _: None, "delete": lambda _: None}
    with _Server(Instance.of(state_dir).socket, calls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            cloud.go_on.set()
            server.shutdown()
            thread.join()
