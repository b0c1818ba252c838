"""[cinder]: the volumes of amphorae that boot from one. Nova makes them, so how Cinder is reached is Nova's affair."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "cinder"
OPTIONS = [
    cfg.IntOpt("volume_size", default=16, min=1, help="Size of an amphora's volume in GiB."),
    cfg.StrOpt("volume_type", help="Type of an amphora's volume; unset: Cinder's default."),
]
