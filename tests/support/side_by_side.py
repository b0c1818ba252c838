"""How ``pytest -n`` (pytest-xdist) shares the tests out to its processes: by file, the longest first.

The files of one room below stay in one process: they share an instance or a server that takes long to start, or
something that this machine has once. A test may not use anything else that exists once.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

ROOMS = (
    "tests/chaos/test_many_controllers",  # Galera and RabbitMQ
    "tests/local/cli/test_openstack_client",  # an instance each
    "tests/local/cli/test_up_down",
    "tests/chaos/",  # one instance
    "tests/local/service/",  # one instance
    "tests/cluster/store/",  # Galera
    "tests/cluster/bus/",  # RabbitMQ
    "tests/cluster/metrics/",  # one set of services
    "tests/cluster/identity/",  # Keystone
)
"""What begins so, in the order in which they begin."""
AFTER = ("tests/cluster/", "tests/local/", "tests/api/", "tests/unit/worker/test_killed_worker.py", "tests/unit/")
"""The order of all other files: those of the last take a second each, so that all processes end together."""
PATIENCE = 60
"""Seconds for the processes to clean up after control-C; xdist kills them after ten."""


def room(nodeid: str) -> str:
    """What stays in one process with this test."""
    return next((room for room in ROOMS if nodeid.startswith(room)), nodeid.partition("::")[0])


def rank(nodeid: str) -> int:
    """When it begins: the lower the sooner."""
    order = (*ROOMS, *AFTER)
    return next((number for number, prefix in enumerate(order) if nodeid.startswith(prefix)), len(order))


class SideBySide(LoadScopeScheduling):
    """A process gets the next room, or the next file, when it is nearly through with one."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # the order is :func:`rank`'s
        NodeManager.EXIT_TIMEOUT = PATIENCE
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)
