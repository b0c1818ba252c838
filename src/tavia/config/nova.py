"""[nova]: how compute is reached, and where amphorae are placed."""

from __future__ import annotations

from oslo_config import cfg

from tavia.config import catalog

GROUP = "nova"
OPTIONS = [
    *catalog.options("Nova"),
    cfg.BoolOpt(
        "enable_anti_affinity",
        default=False,
        help="Place the two amphorae of an ACTIVE_STANDBY load balancer on different hosts.",
    ),
    cfg.StrOpt(
        "anti_affinity_policy",
        default="anti-affinity",
        choices=[
            ("anti-affinity", "The second is not made where there is no other host."),
            ("soft-anti-affinity", "It then shares the host."),
        ],
        help="How strictly.",
    ),
    cfg.StrOpt("availability_zone", help="Zone of all amphorae; unset: Nova's choice."),
    cfg.IntOpt(
        "random_amphora_name_length",
        default=0,
        min=0,
        help="Length of random server names, a and then letters and digits; 0: they are amphora-<id>.",
    ),
]
