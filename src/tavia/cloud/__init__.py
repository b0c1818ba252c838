"""Where amphorae live: compute, networking and images behind the protocols, and the choice between the clouds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.instance import Instance
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Cloud
from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from oslo_config import cfg


def connect(conf: cfg.ConfigOpts) -> Cloud:
    """The cloud that ``[controller_worker] compute_driver`` names; every service calls it once.

    Raises SeamError (control, no-cloud) for one that this version does not have, and for a local cloud without
    ``[tavia] state_dir``. Whether the cloud answers shows with the first call.
    """
    driver = conf.controller_worker.compute_driver
    if driver == "compute_noop_driver":
        noop = NoopCloud()
        return Cloud(compute=noop, networking=noop, images=noop)
    if driver == "compute_local_driver":
        if not conf.tavia.state_dir:
            message = "[tavia] state_dir is not set: the local cloud's socket is there"
            raise SeamError(Seam.CONTROL, "no-cloud", message, permanent=True)
        local = LocalClient(Instance.of(Path(conf.tavia.state_dir)).socket)
        return Cloud(compute=local, networking=local, images=local)
    message = (
        f"[controller_worker] compute_driver {driver}: OpenStack clouds come with a later version; "
        "compute_local_driver makes amphorae on this machine"
    )
    raise SeamError(Seam.CONTROL, "no-cloud", message, permanent=True)
