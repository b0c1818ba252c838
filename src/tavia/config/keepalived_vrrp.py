"""[keepalived_vrrp]: how the two amphorae of an ACTIVE_STANDBY load balancer agree on who has the VIP."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "keepalived_vrrp"
OPTIONS = [
    cfg.FloatOpt(
        "vrrp_advert_int",
        default=1,
        min=0.01,
        max=40.95,
        help="Seconds between two VRRP advertisements. The backup takes over after about three missed ones. VRRPv3 "
        "(RFC 5798) counts centiseconds.",
    ),
    cfg.IntOpt("vrrp_garp_refresh_interval", default=5, min=0, help="Seconds between two refreshing gratuitous ARPs."),
    cfg.IntOpt("vrrp_garp_refresh_count", default=2, min=0, help="Gratuitous ARPs sent in one refresh."),
]
