"""The way to the message bus that octavia.conf names. Nothing here connects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tavia.model.seams import Seam, SeamError

SELDOM = 300.0


def rpc_transport(conf: cfg.ConfigOpts) -> Any:
    """By [DEFAULT] transport_url. Raises SeamError where that is not understood."""
    return _made(conf, oslo_messaging.get_rpc_transport, "[DEFAULT] transport_url")


def notification_transport(conf: cfg.ConfigOpts) -> Any:
    """By [oslo_messaging_notifications] transport_url, else the other. Raises SeamError."""
    named = "[oslo_messaging_notifications] transport_url or [DEFAULT] transport_url"
    return _made(conf, oslo_messaging.get_notification_transport, named)


def _made(conf: cfg.ConfigOpts, make: Callable[[cfg.ConfigOpts], Any], named: str) -> Any:
    for name in ("oslo.messaging._drivers.impl_rabbit", "oslo_messaging._drivers.impl_rabbit"):
        logging.getLogger(name).addFilter(_SELDOM)
    logging.getLogger("amqp").setLevel(logging.ERROR)  # it warns of each connection that is closed in order
    try:
        return make(conf)
    except Exception as error:  # its text has the URL, and that a password
        kind = type(error).__name__
    message = f"{named} cannot be used ({kind}): it is rabbit://user:password@host:port/virtual-host"
    raise SeamError(Seam.CONTROL, "transport-url-invalid", message, permanent=True)


class _Seldom(logging.Filter):
    """RabbitMQ's driver complains at every try: one complaint an outage, another one every five minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is worth a line."""
        if record.levelno < logging.INFO:
            return True
        if "Reconnected" in str(record.msg):
            self._next = 0.0
            return True
        is_due = time.monotonic() >= self._next
        if is_due:
            self._next = time.monotonic() + SELDOM
        return is_due


_SELDOM = _Seldom()
