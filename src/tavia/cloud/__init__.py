"""Where amphorae live: compute, networking and images behind the protocols, and the choice between the clouds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tavia.cloud.local.client import LocalClient
from tavia.cloud.local.instance import Instance
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Cloud
from tavia.model.seams import Seam, SeamError

if TYPE_CHECKING:
    from oslo_config import cfg


def connect(conf: cfg.ConfigOpts) -> Cloud:
    """The cloud that ``[controller_worker]`` names by its three drivers; every service calls it once.

    Raises SeamError: control, no-cloud for a local cloud without ``[tavia] state_dir``; control, cloud-not-configured
    for an OpenStack cloud without credentials. Whether the cloud answers shows with the first call.
    """
    from tavia.metrics.calls import timed_cloud  # noqa: PLC0415  the light install has no prometheus_client

    worker, noop = conf.controller_worker, NoopCloud()

    def of(option: str, noop_driver: str, local_driver: str) -> Any:
        driver = worker[option]
        if driver == noop_driver:
            return noop
        if driver == local_driver:
            return _local(conf)
        return _openstack(conf, option)

    return Cloud(
        compute=timed_cloud("compute", of("compute_driver", "compute_noop_driver", "compute_local_driver")),
        networking=timed_cloud("network", of("network_driver", "network_noop_driver", "network_local_driver")),
        images=timed_cloud("image", of("image_driver", "image_noop_driver", "image_local_driver")),
    )


def _openstack(conf: cfg.ConfigOpts, option: str) -> Any:
    """One face of it, imported only here: openstacksdk is large."""
    from tavia.cloud.openstack import compute, connection, images, networking  # noqa: PLC0415

    if option == "compute_driver":
        return compute.NovaCompute(connection.service(conf, "nova"))
    if option == "network_driver":
        return networking.NeutronNetworking(connection.service(conf, "neutron"))
    return images.GlanceImages(connection.service(conf, "glance"))


def _local(conf: cfg.ConfigOpts) -> LocalClient:
    if not conf.tavia.state_dir:
        message = "[tavia] state_dir is not set: the local cloud's socket is there"
        raise SeamError(Seam.CONTROL, "no-cloud", message, permanent=True)
    return LocalClient(Instance.of(Path(conf.tavia.state_dir)).socket)
