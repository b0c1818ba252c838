"""Wake-ups between services, and notifications for others. What carries them is chosen here, from octavia.conf.

A wake-up is a hint: polling always runs, so a lost one costs a poll interval. With ``[DEFAULT] transport_url`` workers
on all machines hear it through oslo.messaging; without, those on this machine by datagrams.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from oslo_config import cfg

from tavia.bus.events import Event
from tavia.bus.wake import Datagrams, NoWakeups, wake_workers
from tavia.model.resources import LoadBalancer

Announce = Callable[[Event, LoadBalancer], None]
"""Told of a load balancer that was made so; never waits."""


class Wakeups(Protocol):
    """A worker's side."""

    def wait(self, timeout: float) -> None:
        """Return at the next wake-up (several that came meanwhile are one) or after ``timeout`` seconds."""

    def interrupt(self) -> None:
        """End a wait, from another thread."""

    def close(self) -> None:
        """Stop listening."""


def waker(conf: cfg.ConfigOpts) -> Callable[[], None]:
    """Tells all workers that something is due, and never waits. Raises SeamError for a transport_url of no use."""
    if _has_bus(conf):
        from tavia.bus.fanout import fanout_waker  # noqa: PLC0415  half a second, for who has a message bus

        return fanout_waker(conf)
    return partial(wake_workers, Path(conf.tavia.state_dir)) if conf.tavia.state_dir else lambda: None


def wakeups(conf: cfg.ConfigOpts) -> Wakeups:
    """What :func:`waker` says, at a worker. Raises SeamError for a transport_url of no use."""
    if _has_bus(conf):
        from tavia.bus.fanout import FanoutWakeups  # noqa: PLC0415

        return FanoutWakeups(conf)
    return Datagrams(Path(conf.tavia.state_dir)) if conf.tavia.state_dir else NoWakeups()


def announcer(conf: cfg.ConfigOpts) -> Announce:
    """Where [oslo_messaging_notifications] names a driver: notifications. Raises SeamError as above."""
    drivers = conf.oslo_messaging_notifications.driver if "oslo_messaging_notifications" in conf else []
    if not conf.controller_worker.event_notifications or not set(drivers) - {"noop"}:
        return lambda _event, _loadbalancer: None
    from tavia.bus.notifications import Announcer  # noqa: PLC0415

    return Announcer(conf)


def _has_bus(conf: cfg.ConfigOpts) -> bool:
    return "transport_url" in conf and bool(conf.transport_url)
