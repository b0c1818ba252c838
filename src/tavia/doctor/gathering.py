"""All facts, for `tavia doctor`. What needs what failed is not asked, and says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from oslo_config import cfg

from tavia import config
from tavia.doctor import asking_cloud, asking_host
from tavia.doctor.asking import found
from tavia.doctor.asking_cloud import Progress
from tavia.doctor.facts import Facts, Login
from tavia.doctor.findings import Unknown


def is_openstack(conf: cfg.ConfigOpts) -> bool:
    """Whether amphorae are Nova's."""
    return bool(conf.controller_worker.compute_driver == "compute_nova_driver")


def gather(conf: cfg.ConfigOpts, progress: Progress) -> Facts:
    """Ask all, and change nothing. ``progress`` shows what takes a while."""
    asked: dict[str, Any] = {"interfaces": found(asking_host.interfaces)}
    with progress("asking the database"):
        asked["database"] = found(lambda: asking_host.database(conf))
    with progress("asking RabbitMQ"):
        asked["rabbit"] = found(lambda: asking_host.rabbit(conf))
    if conf.api_settings.auth_strategy == "keystone":
        with progress("asking Keystone as the API"):
            asked["token_checks"] = asking_cloud.token_checks(conf)
    if is_openstack(conf):
        asked |= _of_cloud(conf, asked["interfaces"], progress)
    return Facts(
        conf=conf,
        now=datetime.now(UTC),
        assigned=config.sections(conf),
        unused=config.unused_options(conf),
        files=asking_host.files(conf),
        **asked,
    )


def _of_cloud(conf: cfg.ConfigOpts, interfaces: Any, progress: Progress) -> dict[str, Any]:
    with progress("asking Keystone as the worker"):
        logged_in = asking_cloud.logins(conf)
    login = logged_in["login"]
    if isinstance(login, Login):
        return logged_in | asking_cloud.everything(conf, login, interfaces, progress)
    needs_token = ("images", "flavor", "key_pair", "hosts", "networks", "groups", "leg_ports", "quotas")
    return logged_in | dict.fromkeys(needs_token, Unknown("Keystone gives no token, see keystone"))
