"""Files that the rendered configuration and the agent share inside an amphora."""

from __future__ import annotations

RUN_DIR = "/run/tavia"
"""What is gone after a reboot: sockets, pid files, what HAProxy has loaded."""

STATE_DIR = "/var/lib/tavia"
"""What survives a reboot: the bundle, the boot count."""

AGENT_CONFIG = "/etc/octavia/amphora-agent.conf"
"""The agent's configuration, as in Octavia's amphora."""

AGENT_CERT = "/etc/octavia/certs/server.pem"
"""The agent's certificate and key."""

AGENT_CLIENT_CA = "/etc/octavia/certs/client_ca.pem"
"""The authority that signs the controllers' certificates."""

HAPROXY_SOCKET = "/run/tavia/haproxy.sock"
"""HAProxy's stats socket, level admin."""

SERVER_STATE = "/run/tavia/server-state"
"""What ``show servers state`` said before a reload; the new HAProxy starts from it."""

TRACK_FILE = "/run/tavia/haproxy.track"
"""Holds the weight that keepalived adds to its priority: 0 while HAProxy serves."""

VRRP_FIFO = "/run/tavia/vrrp.fifo"
"""Where keepalived tells its state changes."""
