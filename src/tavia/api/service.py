"""``tavia-api``: the API under gunicorn. ``tavia up`` and service managers start it with ``--config-file``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from tavia import config
from tavia.api.gate import asks_who, is_loopback
from tavia.metrics import serving


def application(conf: cfg.ConfigOpts) -> Callable[..., Any]:
    """The WSGI application as configured. Raises SeamError where database or cloud do not fit."""
    # Not imported with this module: they count, see serving.several_processes.
    from tavia.api.app import create_app  # noqa: PLC0415
    from tavia.cloud import connect  # noqa: PLC0415
    from tavia.store.opening import open_database  # noqa: PLC0415

    return create_app(conf, open_database(conf.database.connection, conf.database), connect(conf))


def check_identity(conf: cfg.ConfigOpts) -> None:
    """Refuse to serve everyone by mistake. Raises SystemExit."""
    host = conf.api_settings.bind_host
    if not asks_who(conf) and not is_loopback(host) and not conf.tavia.noauth_bind_anywhere:
        raise SystemExit(
            f"{conf.prog}: [api_settings] bind_host = {host}: with auth_strategy = {conf.api_settings.auth_strategy} "
            "nobody is asked who they are. Either bind to a loopback address or set auth_strategy = keystone; to let "
            "whoever reaches the address be an administrator, set [tavia] noauth_bind_anywhere = true"
        )
    section = conf.keystone_authtoken.auth_section or "keystone_authtoken"
    if asks_who(conf) and conf[section].auth_type is None:
        raise SystemExit(
            f"{conf.prog}: [{section}] auth_type is not set: with auth_strategy = keystone the service needs a user of "
            "its own to check tokens, usually auth_type = password with auth_url, username, password and project_name"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop. Raises SystemExit for a configuration that cannot be served."""
    conf = config.load(argv, "tavia-api")
    check_identity(conf)
    config.setup_logging(conf)
    with serving.several_processes(conf):
        from tavia.api.server import Server  # noqa: PLC0415  they count too
        from tavia.process.presence import DATABASE_ERRORS  # noqa: PLC0415

        try:
            application(conf)  # once before the fork, so that a mistake is told here and not by a dying process
        except DATABASE_ERRORS as error:
            raise SystemExit(f"{conf.prog}: {error}") from error
        Server(conf, application).run()
