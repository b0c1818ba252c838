"""One table of protocols: what may be asked for is in it, and nothing else."""

from __future__ import annotations

from typing import get_args

from tavia.model.protocols import (
    LISTENER_PROTOCOLS,
    POOL_PROTOCOLS,
    ListenerProtocol,
    MonitorType,
    PoolProtocol,
    over,
)


def test_every_protocol_that_may_be_asked_for_is_in_the_table() -> None:
    assert set(LISTENER_PROTOCOLS) == set(get_args(ListenerProtocol))
    assert set(POOL_PROTOCOLS) == set(get_args(PoolProtocol))
    assert {kind for each in POOL_PROTOCOLS.values() for kind in each.monitors} == set(get_args(MonitorType))


def test_ports_are_a_transports_own() -> None:
    assert over("tcp") == {"TCP", "HTTP"}
    assert over("udp") == over("sctp") == frozenset()
