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
    """The cloud that ``[controller_worker]`` names by its three drivers; every service calls it once.

    Raises SeamError (control, no-cloud) for one that this version does not have, and for a local cloud without
    ``[tavia] state_dir``. Whether the cloud answers shows with the first call.
    """
    from tavia.metrics.calls import timed_cloud  # noqa: PLC0415  the light install has no prometheus_client

    worker, noop = conf.controller_worker, NoopCloud()

    def of(option: str, noop_driver: str, local_driver: str) -> NoopCloud | LocalClient:
        driver = worker[option]
        if driver == noop_driver:
            return noop
        if driver == local_driver:
            return _local(conf)
        message = f"[controller_worker] {option} {driver}: OpenStack clouds come with a later version; "
        raise SeamError(
            Seam.CONTROL, "no-cloud", message + f"{local_driver} makes amphorae on this machine", permanent=True
        )

    return Cloud(
        compute=timed_cloud("compute", of("compute_driver", "compute_noop_driver", "compute_local_driver")),
        networking=timed_cloud("network", of("network_driver", "network_noop_driver", "network_local_driver")),
        images=timed_cloud("image", of("image_driver", "image_noop_driver", "image_local_driver")),
    )


def _local(conf: cfg.ConfigOpts) -> LocalClient:
    if not conf.tavia.state_dir:
        message = "[tavia] state_dir is not set: the local cloud's socket is there"
        raise SeamError(Seam.CONTROL, "no-cloud", message, permanent=True)
    return LocalClient(Instance.of(Path(conf.tavia.state_dir)).socket)
