"""What compute says of a server becomes evidence about its amphora."""

from __future__ import annotations

import pytest

from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Server, ServerStatus
from tavia.diagnosis.evidence import Evidence, Fact
from tavia.health.witnesses import Suspect, Witnesses


class OneServer(NoopCloud):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._servers[server.id] = server


@pytest.mark.parametrize(
    ("status", "busy", "runs", "expected"),
    [
        (ServerStatus.ACTIVE, False, True, False),
        (ServerStatus.ACTIVE, True, True, True),
        (ServerStatus.OFF, True, False, True),
        (ServerStatus.BUILDING, False, None, True),
        (ServerStatus.UNKNOWN, False, None, False),
    ],
)
def test_a_server_that_compute_works_on_is_busy(status: ServerStatus, busy: bool, runs: Fact, expected: bool) -> None:
    server = Server(id="s", name="s", status=status, created_at=0.0, busy=busy)
    witnesses = Witnesses(OneServer(server), lambda *_: pytest.fail("nobody is asked"), frozenset(), 1)
    try:
        evidence = witnesses.gather([Suspect("a", "s", None, Evidence())], None)["a"]
    finally:
        witnesses.close()
    assert (evidence.server_runs, evidence.server_busy) == (runs, expected)
