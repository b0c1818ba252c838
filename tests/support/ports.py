"""Ports of loopback for servers that start a moment later.

The kernel gives clients theirs from another range (ip_local_port_range), so that no connection of a test that runs at
the same time takes one meanwhile.
"""

from __future__ import annotations

import random
import socket

_RANGE = range(10000, 32000)
_given: set[int] = set()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """One on which nobody listens, another one at each call."""
    for port in random.sample(_RANGE, 200):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise RuntimeError("no free port")
