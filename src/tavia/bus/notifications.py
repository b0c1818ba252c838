"""Notifications with Octavia's event types, for billing, DNS and who else listens on ``notifications.info``.

As Octavia 19 sends them: priority INFO, the load balancer as its payload has it, its project in the context. Octavia
leaves ``publisher_id`` empty and sends ``update.end`` for a change of the load balancer itself; here it names the
machine, and ``update.end`` follows every change that was made so, of a listener or a member too, and a failover asked
for. Changes that were applied together are one. A repair that nobody asked for is none.

At most once: sent after the commit, from memory. One is lost when its worker dies in between, or when 1000 wait for
a message bus that is away. Who must know everything reads the API.
"""

from __future__ import annotations

import atexit
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_context.context import RequestContext

from tavia.bus.events import Event
from tavia.bus.outbox import Outbox
from tavia.bus.transport import notification_transport
from tavia.model.resources import LoadBalancer

KEPT = 1000
"""Notifications that wait for a message bus that is away."""

LEAVE_WITHIN = 2.0
"""Most seconds for which a process that ends waits for its last notifications to be sent."""


class Announcer:
    """Sends what [oslo_messaging_notifications] says, and never waits. Raises SeamError for a transport_url of no use.

    With the option ``retry`` as it is, RabbitMQ's driver holds a notification until it could be sent.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        transport = notification_transport(conf)
        publisher = f"octavia-worker.{conf.host}"
        self._notifier = oslo_messaging.Notifier(transport, publisher_id=publisher)  # type: ignore[no-untyped-call]
        if self._notifier.retry < 0:
            self._notifier.retry = None  # for ever too, but with -1 RabbitMQ's driver gives up where it cannot connect
        self._outbox: Outbox[tuple[Event, LoadBalancer]] = Outbox("notifications", self._send, limit=KEPT)
        atexit.register(self._outbox.drain, LEAVE_WITHIN)

    def __call__(self, event: Event, loadbalancer: LoadBalancer) -> None:
        """``loadbalancer`` was made so."""
        self._outbox.offer((event, loadbalancer))

    def _send(self, announcement: tuple[Event, LoadBalancer]) -> None:
        event, loadbalancer = announcement
        context = RequestContext(project_id=loadbalancer.project_id, overwrite=False)
        self._notifier.info(context, event.value, payload(loadbalancer))  # type: ignore[no-untyped-call]


def payload(loadbalancer: LoadBalancer) -> dict[str, Any]:
    """What Octavia's payload says of a load balancer."""
    return {
        "loadbalancer_id": loadbalancer.id,
        "name": loadbalancer.name,
        "description": loadbalancer.description,
        "project_id": loadbalancer.project_id,
        "admin_state_up": loadbalancer.admin_state_up,
        "availability_zone": loadbalancer.availability_zone,
        "vip_address": loadbalancer.vip_address,
        "vip_network_id": loadbalancer.vip_network_id,
        "vip_port_id": loadbalancer.vip_port_id,
        "vip_subnet_id": loadbalancer.vip_subnet_id,
        "vip_qos_policy_id": loadbalancer.vip_qos_policy_id,
    }
