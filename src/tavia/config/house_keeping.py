"""[house_keeping]: what is cleaned up and renewed in the background."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "house_keeping"
OPTIONS = [
    cfg.IntOpt("cleanup_interval", default=30, min=1, help="Seconds between two rounds of cleaning up."),
    cfg.IntOpt(
        "amphora_expiry_age",
        default=7 * 24 * 3600,
        min=0,
        help="Seconds for which the row of a deleted amphora is kept.",
    ),
    cfg.IntOpt(
        "load_balancer_expiry_age",
        default=7 * 24 * 3600,
        min=0,
        help="Seconds for which the row of a deleted load balancer is kept, and the journal of any.",
    ),
    cfg.IntOpt("cert_interval", default=3600, min=1, help="Seconds between two looks for certificates to renew."),
    cfg.IntOpt(
        "cert_expiry_buffer",
        default=14 * 24 * 3600,
        min=0,
        help="Seconds before its expiry from which an amphora's certificate is renewed.",
    ),
]
