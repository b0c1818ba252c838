"""[health_manager]: heartbeats, and when a silent amphora is replaced."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "health_manager"
OPTIONS = [
    cfg.IPOpt("bind_ip", default="127.0.0.1", help="Address on the management network that receives heartbeats."),
    cfg.PortOpt("bind_port", default=5555, help="UDP port that receives heartbeats."),
    cfg.ListOpt(
        "controller_ip_port_list",
        default=[],
        mutable=True,
        help="Where amphorae send heartbeats: address:port of every health manager.",
    ),
    cfg.StrOpt(
        "heartbeat_key",
        secret=True,
        mutable=True,
        help="Secret that heartbeats are signed with, the same on every controller.",
    ),
    cfg.FloatOpt(
        "heartbeat_interval",
        default=10,
        min=0.1,
        mutable=True,
        help="Seconds between two heartbeats of an amphora.",
    ),
    cfg.FloatOpt(
        "heartbeat_timeout", default=60, min=0.1, help="Seconds of silence after which an amphora is suspected."
    ),
    cfg.FloatOpt("health_check_interval", default=3, min=0.1, help="Seconds between two looks for silent amphorae."),
    cfg.IntOpt(
        "sock_rlimit", default=0, min=0, help="Receive buffer of the heartbeat socket in bytes; 0: the kernel's."
    ),
    cfg.IntOpt("failover_threads", default=10, min=1, help="Amphorae that may be replaced at the same time."),
    cfg.IntOpt(
        "failover_threshold",
        min=0,
        help="No automatic failover while at least this many amphorae are silent: the network is at fault then, "
        "or this controller. Unset: failover_share alone decides.",
    ),
    cfg.FloatOpt(
        "failover_share",
        default=0.2,
        min=0.0,
        max=1.0,
        help="No automatic failover while more than this share of all amphorae is silent without explanation, from "
        "three on.",
    ),
    cfg.FloatOpt(
        "failover_grace",
        min=0.0,
        help="Seconds without automatic failover after the health manager started and after the database was away. "
        "Unset: heartbeat_timeout.",
    ),
]
