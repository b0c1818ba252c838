"""Files that the rendered configuration and the agent share inside an amphora."""

from __future__ import annotations

HAPROXY_SOCKET = "/run/tavia/haproxy.sock"
"""HAProxy's stats socket, level admin."""

SERVER_STATE = "/run/tavia/server-state"
"""What ``show servers state`` said before a reload; the new HAProxy starts from it."""

TRACK_FILE = "/run/tavia/haproxy.track"
"""Holds the weight that keepalived adds to its priority: 0 while HAProxy serves."""

VRRP_FIFO = "/run/tavia/vrrp.fifo"
"""Where keepalived tells its state changes."""
