"""The event types of notifications, Octavia's."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """What was made so of a load balancer."""

    CREATED = "octavia.loadbalancer.create.end"
    UPDATED = "octavia.loadbalancer.update.end"
    DELETED = "octavia.loadbalancer.delete.end"
