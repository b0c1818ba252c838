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
]
