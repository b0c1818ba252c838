"""[DEFAULT]: what all services of one machine share."""

from __future__ import annotations

import socket

from oslo_config import cfg

GROUP = None
OPTIONS = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<this machine's name>",
        help="Name of this controller. It stands in the journal and in leases, and must differ between controllers.",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=0,
        mutable=True,
        help="Seconds that a service which is told to stop has for what is under way; then it ends with an error, "
        "saying what it left. 0: as long as it takes.",
    ),
    cfg.BoolOpt(
        "log_options",
        default=True,
        help="Log the value of every option at the start and at a reload, where debug is on.",
    ),
]
