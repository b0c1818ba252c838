"""The programs of an amphora. A new one is a module and its line here (and its package in the image)."""

from __future__ import annotations

from tavia.agent.haproxy import Haproxy
from tavia.agent.keepalived import Keepalived
from tavia.agent.program import Make

PROGRAMS: tuple[Make, ...] = (
    Haproxy,
    Keepalived,
)
"""In the order in which a bundle is checked and put in force: what serves comes before what draws the traffic here."""
