"""A real worker that dies by SIGKILL right before or after the n-th effect that it has on one load balancer.

It is ``tavia-worker`` as :func:`tavia.worker.service.build` makes it, on a real instance, except that what its steps
call is counted: the cloud's calls that change something, and the bundles given to agents. It is forked from a server
process that has everything imported already, so that a life takes a moment only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from instance import Instance
from sqlalchemy import or_, select

from tavia import config
from tavia.cloud.local import linux
from tavia.cloud.local.instance import NETNS_DIR
from tavia.store import leases, schema
from tavia.worker import service
from tavia.worker.convergence import Controller
from tavia.worker.loop import Loop
from tavia.worker.rounds import converge

When = Literal["before", "after", "stopped before"]
CHANGING = (
    *("boot", "power_off", "power_on", "delete"),
    *("create_port", "set_allowed_addresses", "delete_port"),
    "put_bundle",
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "tavia.worker.service"])
UNKILLED = 0
"""The exit code of a worker that came to the end of its work."""


class Trap:
    """Counts effects; at the one it waits for, it kills or stops the process."""

    def __init__(self, when: When, number: int, effects: Collection[str]) -> None:
        self.effects = effects
        self._when = when
        self._number = number
        self._count = 0
        self._one_at_a_time = threading.Lock()

    def around(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            with self._one_at_a_time:
                is_it = self._count == self._number
                self._count += 1
                if is_it and self._when == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
                if is_it and self._when == "stopped before":
                    os.kill(os.getpid(), signal.SIGSTOP)
                result = effect(*arguments, **named)
                if is_it and self._when == "after":
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

        return counted


class Trapped:
    """Another object, its changing methods inside the trap."""

    def __init__(self, inner: object, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._trap.around(found) if name in self._trap.effects else found


def start(
    instance: Instance, loadbalancer_id: str, when: When, number: int, effects: Collection[str] = CHANGING
) -> BaseProcess:
    """Begin the life of a worker that knows of this load balancer only; ``number`` counts these effects from 0."""
    embedded = instance.embedded
    arguments = (embedded.instance.fabric, embedded.config_file, loadbalancer_id, (when, number, effects))
    process = CONTEXT.Process(target=_live, args=arguments, daemon=True)
    process.start()
    return process


def _live(fabric: str, config_file: Path, loadbalancer_id: str, trap: tuple[When, int, Collection[str]]) -> None:
    linux.enter_network(NETNS_DIR / fabric)
    conf = config.load(["--config-file", str(config_file)], "tavia-worker", [])
    config.setup_logging(conf)
    loop = service.build(conf)
    controller = _trapped(loop, Trap(*trap))
    while _has_work(controller, loadbalancer_id):
        _converge(controller, loadbalancer_id)
        time.sleep(0.05)


def _trapped(loop: Loop, trap: Trap) -> Controller:
    controller = loop._controller
    steps: Any = controller.steps
    cloud, agent_of = steps._cloud, steps._agent_of
    steps._cloud = replace(cloud, compute=Trapped(cloud.compute, trap), networking=Trapped(cloud.networking, trap))
    steps._agent_of = lambda amphora: Trapped(agent_of(amphora), trap)
    return controller


def _has_work(controller: Controller, loadbalancer_id: str) -> bool:
    """Whether something is left to do, now or later (a wait for a boot)."""
    row = schema.load_balancer.c
    with controller.database.read() as conn:
        left = or_(row.generation > row.observed_generation, row.due_at.is_not(None))
        return bool(conn.execute(select(row.id).where(row.id == loadbalancer_id, left)).first())


def _converge(controller: Controller, loadbalancer_id: str) -> None:
    with controller.database.read() as conn:
        last = leases.seen(conn, loadbalancer_id)
    converge(controller, last, "the worker that dies")
