"""``tavia-api``: the API under gunicorn. ``tavia up`` and service managers start it with ``--config-file``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gunicorn.app.base import BaseApplication
from oslo_config import cfg

from tavia import config
from tavia.api.app import create_app
from tavia.api.gate import is_loopback
from tavia.cloud import connect
from tavia.model.seams import SeamError
from tavia.store.migrate import open_database

PROCESSES = 2
THREADS = 8


class _Server(BaseApplication):
    """Gunicorn, told all by us. Each process has its own connections, opened after the fork."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        super().__init__()  # type: ignore[no-untyped-call]

    def load_config(self) -> None:
        """Gunicorn's settings; it reads no file and no argument of its own."""
        settings = self._conf.api_settings
        host = f"[{settings.bind_host}]" if ":" in settings.bind_host else settings.bind_host
        for name, value in {
            "bind": f"{host}:{settings.bind_port}",
            "workers": PROCESSES,
            "threads": THREADS,
            "worker_class": "gthread",
            "proc_name": "tavia-api",
            "limit_request_line": 8190,
            "graceful_timeout": 10,
            "control_socket_disable": True,  # it would lie in root's home, one for all instances
        }.items():
            self.cfg.set(name, value)  # type: ignore[union-attr]

    def load(self) -> Callable[..., Any]:
        """What one process serves."""
        config.setup_logging(self._conf)
        return application(self._conf)


def application(conf: cfg.ConfigOpts) -> Callable[..., Any]:
    """The WSGI application as configured. Raises SeamError where database or cloud do not fit."""
    return create_app(conf, open_database(conf.database.connection), connect(conf))


def check_identity(conf: cfg.ConfigOpts) -> None:
    """Refuse to serve everyone. Raises SystemExit."""
    settings = conf.api_settings
    if settings.auth_strategy == "keystone":
        raise SystemExit(
            f"{conf.prog}: [api_settings] auth_strategy = keystone: this release cannot ask Keystone yet; "
            "noauth serves this machine alone"
        )
    if not is_loopback(settings.bind_host):
        raise SystemExit(
            f"{conf.prog}: [api_settings] bind_host = {settings.bind_host}: with auth_strategy = "
            f"{settings.auth_strategy} nobody is asked who they are, so it must be a loopback address"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop. Raises SystemExit for a configuration that cannot be served."""
    conf = config.load(argv, "tavia-api")
    check_identity(conf)
    try:
        application(conf)  # once before the fork, so that a mistake is told here and not by a dying process
    except SeamError as error:
        raise SystemExit(f"{conf.prog}: {error}") from error
    _Server(conf).run()  # type: ignore[no-untyped-call]
