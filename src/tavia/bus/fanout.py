"""Wake-ups over the message bus: every worker on every machine hears each one, through oslo.messaging's fanout.

A wake-up names no load balancer. Workers woken for the same change each look for what is due by one SELECT; who comes
late finds nothing, who comes second sends one UPDATE that touches no row. A name would save nothing of that, as a lease
is taken as it was last seen, and a burst could no longer be one message.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tavia.bus.outbox import Outbox
from tavia.bus.transport import rpc_transport
from tavia.metrics.bus import WAKE_UPS

LOG = logging.getLogger(__name__)

SPACING = 0.01
"""Least seconds between two wake-ups of one process: a burst of changes is a few messages, and one change after the
other waits for none."""

SERVER = "all"
"""Every worker's, so that the queue that oslo.messaging keeps for a server is one for all; nothing is sent there."""

LISTEN_AGAIN = 5.0
CLOSE_WITHIN = 2.0


def fanout_waker(conf: cfg.ConfigOpts) -> Callable[[], None]:
    """Tells all workers that something is due, and never waits. Raises SeamError for a transport_url of no use.

    With one wake-up still to be sent, another would say nothing new.
    """
    target = _target(conf, fanout=True)
    client = oslo_messaging.get_rpc_client(  # type: ignore[no-untyped-call]
        rpc_transport(conf), target, retry=0
    )
    outbox: Outbox[str] = Outbox("wake-ups", lambda wake: client.cast({}, wake), limit=1, spacing=SPACING)
    atexit.register(outbox.drain, CLOSE_WITHIN)  # a command ends right after its wake-up

    def wake() -> None:
        outbox.offer(_Ear.wake.__name__)

    return wake


class FanoutWakeups:
    """A worker's side: blocks until a wake-up comes, or ``timeout`` seconds have passed.

    Connects in a thread of its own, as often as it takes. Raises SeamError for a transport_url of no use.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._transport = rpc_transport(conf)
        self._target = _target(conf, server=SERVER)
        self._server: oslo_messaging.MessageHandlingServer | None = None
        threading.Thread(target=self._listen, name="listening for wake-ups", daemon=True).start()

    def wait(self, timeout: float) -> None:
        """Return at the next wake-up (several that came meanwhile are one) or after ``timeout``."""
        self._woken.wait(timeout)
        self._woken.clear()

    def interrupt(self) -> None:
        """End a wait, from another thread."""
        self._woken.set()

    def close(self) -> None:
        """Stop listening. A message bus that does not answer keeps nobody: it forgets our queue by itself."""
        self._closing.set()
        ending = threading.Thread(target=self._end, name="ending wake-ups", daemon=True)
        ending.start()
        ending.join(CLOSE_WITHIN)

    def _listen(self) -> None:
        while not self._closing.is_set():
            server = oslo_messaging.get_rpc_server(
                self._transport, self._target, [_Ear(self._woken)], executor="threading"
            )
            try:
                server.start()  # comes back once connected, and reconnects by itself from then on
            except Exception as error:
                LOG.error("Cannot listen for wake-ups, workers poll meanwhile: %s", error)
                self._closing.wait(LISTEN_AGAIN)
            else:
                self._server = server
                LOG.info("Listening for wake-ups")
                return

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server.wait()


class _Ear:
    """What oslo.messaging calls: its public methods are the messages."""

    def __init__(self, woken: threading.Event) -> None:
        self._woken = woken

    def wake(self, _context: object) -> None:
        """A wake-up came."""
        WAKE_UPS.inc()
        self._woken.set()


def _target(conf: cfg.ConfigOpts, **more: Any) -> oslo_messaging.Target:
    topic = f"{conf.oslo_messaging.topic}_wake"
    return oslo_messaging.Target(topic=topic, **more)  # type: ignore[no-untyped-call]
