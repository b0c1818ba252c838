"""``tavia-worker``: makes what should be. Any number of them may run, on any machines, on one database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from oslo_config import cfg

from tavia import cloud as clouds
from tavia.amphora.client import AgentClient
from tavia.amphora.noop import NoopAgentClient
from tavia.bus import announcer, wakeups
from tavia.cloud.protocols import Volume
from tavia.config.controller_worker import AMPHORA_NOOP
from tavia.model.resources import OUR_PROVIDERS, Amphora
from tavia.model.seams import Seam, SeamError
from tavia.pki import Authority
from tavia.process.lifetime import serve
from tavia.render.settings import RenderSettings
from tavia.store.opening import open_database
from tavia.worker.boot_options import BootOptions
from tavia.worker.convergence import Controller
from tavia.worker.lease_keeper import LeaseKeeper, longest_step
from tavia.worker.loop import Loop
from tavia.worker.rendering import VipNetworks
from tavia.worker.steps import Steps

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """The process: runs until SIGTERM, then finishes the steps under way and gives its leases back."""
    serve("tavia-worker", argv, build)


def build(conf: cfg.ConfigOpts) -> Loop:
    """A worker as configured. Raises SeamError where it cannot work."""
    database = open_database(conf.database.connection, conf.database)
    cloud = clouds.connect(conf)
    steps = Steps(database, cloud, _authority(conf), boot_options(conf, database.deployment_id()), agent_clients(conf))
    controller = Controller(
        database=database,
        vip_networks=VipNetworks(cloud.networking),
        steps=steps,
        keeper=LeaseKeeper(database, conf.tavia.lease_ttl, conf.tavia.step_deadline),
        executor=ThreadPoolExecutor(2 * conf.tavia.max_workers, thread_name_prefix="step"),
        settings=render_settings(conf),
        host=conf.host,
        heartbeat_timeout=conf.health_manager.heartbeat_timeout,
        cert_expiry_buffer=conf.house_keeping.cert_expiry_buffer,
        coalesce_interval=conf.tavia.coalesce_interval,
        retry_pending_seconds=conf.tavia.retry_pending_seconds,
        retry_interval_max=conf.tavia.retry_interval_max,
        stopping=threading.Event(),
        announce=announcer(conf),
    )
    return Loop(
        controller,
        wakeups(conf),
        providers=OUR_PROVIDERS,
        poll_interval=conf.tavia.poll_interval,
        max_workers=conf.tavia.max_workers,
    )


KEPT_CLIENTS = 256
"""Agents to which a worker keeps a connection. One that is let go closes when nothing uses it any more."""


def agent_clients(conf: cfg.ConfigOpts) -> Callable[[Amphora], AgentClient | NoopAgentClient]:
    """Finds the client of an amphora's agent; connections are kept to the ones that were used last."""
    if _is_noop(conf):
        return lambda amphora: NoopAgentClient(amphora.id)

    @lru_cache(maxsize=KEPT_CLIENTS)
    def client(amphora_id: str, address: str) -> AgentClient:
        return AgentClient(
            address,
            conf.haproxy_amphora.bind_port,
            amphora_id,
            client_cert=Path(conf.haproxy_amphora.client_cert),
            server_ca=Path(conf.haproxy_amphora.server_ca),
            connect_timeout=conf.haproxy_amphora.rest_request_conn_timeout,
            read_timeout=answer_timeout(conf),
        )

    return lambda amphora: client(amphora.id, amphora.lb_network_ip or "")


def answer_timeout(conf: cfg.ConfigOpts) -> float:
    """Seconds to wait for an agent's answer: a step does not last longer."""
    options = conf.haproxy_amphora
    left = longest_step(conf.tavia.step_deadline) - options.rest_request_conn_timeout
    return float(min(options.rest_request_read_timeout, max(left, 1.0)))


def render_settings(conf: cfg.ConfigOpts) -> RenderSettings:
    """What octavia.conf says about HAProxy and keepalived."""
    return RenderSettings(
        vrrp_advert_int=conf.keepalived_vrrp.vrrp_advert_int,
        garp_refresh_interval=conf.keepalived_vrrp.vrrp_garp_refresh_interval,
        garp_refresh_count=conf.keepalived_vrrp.vrrp_garp_refresh_count,
        default_connection_limit=conf.haproxy_amphora.default_connection_limit,
        stick_size=conf.haproxy_amphora.haproxy_stick_size,
        connection_logging=conf.haproxy_amphora.connection_logging,
        log_format=conf.haproxy_amphora.user_log_format,
    )


def _is_noop(conf: cfg.ConfigOpts) -> bool:
    return bool(conf.controller_worker.amphora_driver == AMPHORA_NOOP)


def _authority(conf: cfg.ConfigOpts) -> Authority:
    if _is_noop(conf):  # nobody shows or checks its certificates; making them is part of the work all the same
        validity = timedelta(seconds=conf.certificates.cert_validity_time)
        return Authority.create("noop", ExtendedKeyUsageOID.SERVER_AUTH, validity)
    return Authority.load(
        Path(conf.certificates.ca_certificate),
        Path(conf.certificates.ca_private_key),
        conf.certificates.ca_private_key_passphrase,
    )


def boot_options(conf: cfg.ConfigOpts, deployment_id: str) -> Callable[[], BootOptions]:
    """Tells the options in force: some may change while the worker runs. Raises SeamError for an unreadable file."""
    worker, agent = conf.controller_worker, conf.haproxy_amphora
    limit = agent.build_rate_limit
    at_start = BootOptions(
        deployment_id=deployment_id,
        boot_network_ids=tuple(worker.amp_boot_network_list),
        security_group_ids=tuple(worker.amp_secgroup_list),
        image_tag=worker.amp_image_tag,
        image_owner_id=worker.amp_image_owner_id,
        flavor=worker.amp_flavor_id,
        key_name=worker.amp_ssh_key_name,
        availability_zone=conf.nova.availability_zone,
        anti_affinity=conf.nova.anti_affinity_policy if conf.nova.enable_anti_affinity else None,
        volume=_volume(conf),
        client_ca=b"" if _is_noop(conf) else _read(Path(worker.client_ca), "[controller_worker] client_ca"),
        **_mutable(conf),
        agent_port=agent.bind_port,
        cert_validity=conf.certificates.cert_validity_time,
        active_patience=worker.amp_active_retries * worker.amp_active_wait_sec,
        agent_patience=agent.connection_max_retries * agent.connection_retry_interval,
        agent_interval=agent.connection_retry_interval,
        build_rate_limit=limit if limit >= 0 else None,
        peers_only=conf.networking.use_remote_group_for_lb_peer_ports,
        random_name_length=conf.nova.random_amphora_name_length,
    )
    return lambda: replace(at_start, **_mutable(conf))


def _volume(conf: cfg.ConfigOpts) -> Volume | None:
    if conf.controller_worker.volume_driver != "volume_cinder_driver":
        return None
    return Volume(size=conf.cinder.volume_size, type=conf.cinder.volume_type)


def _mutable(conf: cfg.ConfigOpts) -> dict[str, Any]:
    options = conf.health_manager
    return {
        "controllers": tuple(options.controller_ip_port_list),
        "heartbeat_interval": options.heartbeat_interval,
        "heartbeat_key": options.heartbeat_key,
    }


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SeamError(
            Seam.CONTROL, "file-unreadable", f"{option} = {path}: {error.strerror}", permanent=True
        ) from error
