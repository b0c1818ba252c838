"""Messages of the message bus: what left this process, and what a worker heard."""

from __future__ import annotations

from prometheus_client import Counter

MESSAGES = Counter(
    "tavia_bus_messages",
    "Wake-ups and notifications handed over to be sent: sent, failed (lost), or full: too many waited already, which "
    "loses a notification, and nothing where a wake-up waits.",
    ["kind", "outcome"],
)
WAKE_UPS = Counter("tavia_wake_ups_heard", "Wake-ups that this worker heard over the message bus.")
