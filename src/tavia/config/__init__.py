"""Configuration: octavia.conf's groups, names and defaults, read by oslo.config into an object that is passed on.

A service calls :func:`load` once, then :func:`setup_logging`, and hands the result to what it starts; nothing keeps
it in a global. What may change while it runs (``mutable``) is read where it is used, see :mod:`tavia.config.reloading`.
A module named like a group holds its name and its options.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType

import oslo_middleware.opts
import oslo_policy.opts
from oslo_config import cfg
from oslo_db import options as database_options
from oslo_log import _options as log_options
from oslo_log import log

from tavia.config import (
    api_settings,
    auth_plugins,
    certificates,
    cinder,
    controller_worker,
    default,
    glance,
    haproxy_amphora,
    health_manager,
    house_keeping,
    keepalived_vrrp,
    keystone_authtoken,
    networking,
    neutron,
    nova,
    oslo_messaging,
    quotas,
    service_auth,
    tavia_group,
)

LOG = logging.getLogger(__name__)

DEFAULT_CONFIG_FILES = ("/etc/octavia/octavia.conf",)

NEED_HEARTBEAT_KEY = ("tavia-worker", "tavia-health-manager")
"""Others need not be told a secret that they don't use."""

_GROUPS: tuple[ModuleType, ...] = (
    default,
    api_settings,
    certificates,
    cinder,
    controller_worker,
    glance,
    haproxy_amphora,
    health_manager,
    house_keeping,
    keepalived_vrrp,
    keystone_authtoken,
    networking,
    neutron,
    nova,
    quotas,
    service_auth,
    tavia_group,
)


class Mistakes(Exception):
    """A configuration that cannot be used; ``found`` are lines that name group, option and what is wrong."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__("; ".join(found))
        self.found = found


def load(
    argv: Sequence[str] | None, prog: str, default_config_files: Sequence[str] = DEFAULT_CONFIG_FILES
) -> cfg.ConfigOpts:
    """As :func:`parse`, for a process that ends on a mistake: SystemExit names all of them, one a line."""
    try:
        return parse(argv, prog, default_config_files)
    except Mistakes as mistakes:
        raise SystemExit("\n".join(f"{prog}: {mistake}" for mistake in mistakes.found)) from mistakes


def parse(argv: Sequence[str] | None, prog: str, default_config_files: Sequence[str]) -> cfg.ConfigOpts:
    """Parse ``argv`` (None: the process's own) and the files it names with ``--config-file`` and ``--config-dir``.

    ``default_config_files`` are read where it names none. Every value is checked here, so that a service never starts
    on a mistake that it would meet hours later. Raises Mistakes.
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.set_default("default_log_levels", [*log.get_default_log_levels(), "alembic=WARN"])
    for group, options in all_options():
        conf.register_opts(options, group=group)
    try:
        conf(argv, project="tavia", prog=prog, default_config_files=list(default_config_files), default_config_dirs=[])
    except cfg.Error as error:
        raise Mistakes([str(error)]) from error
    for name, value in keystone_authtoken.DEFAULTS.items():
        conf.set_default(name, value, keystone_authtoken.GROUP)
    try:
        for group, options in auth_plugins.plugin_options(conf):
            conf.register_opts(options, group=group)
    except ValueError as error:
        raise Mistakes([str(error)]) from error
    if oslo_messaging.is_named(sections(conf)):
        for group, options in oslo_messaging.options():
            conf.register_opts(options, group=group)
        oslo_messaging.set_defaults(conf)
    mistakes = list(_mistakes(conf))
    if mistakes:
        raise Mistakes(mistakes)
    return conf


def setup_logging(conf: cfg.ConfigOpts) -> None:
    """Start oslo.log as configured; then name, once and in one line, what the files set and Tavia does not use."""
    log.setup(conf, conf.prog)
    log_values(conf)
    unused = unused_options(conf)
    if unused:
        LOG.warning("Options that Tavia does not use, they have no effect: %s", ", ".join(unused))


def log_values(conf: cfg.ConfigOpts) -> None:
    """Where debug is on, log the value of every option but the secret ones."""
    if conf.log_options:
        conf.log_opt_values(LOG, logging.DEBUG)


def unused_options(conf: cfg.ConfigOpts) -> list[str]:
    """What the configuration files set and nothing here reads: ``[group] name``, sorted."""
    known = set(_known_names(conf))
    return sorted(
        f"[{section}] {name}"
        for section, assignments in sections(conf).items()
        for name in assignments
        if (section, name.replace("-", "_")) not in known
    )


def sections(conf: cfg.ConfigOpts) -> dict[str, dict[str, list[str]]]:
    """What the configuration files assign, by group and name."""
    assigned: dict[str, dict[str, list[str]]] = {}
    in_directories = (str(path) for directory in conf.config_dir or () for path in Path(directory).glob("*.conf"))
    for path in chain(conf.config_file, in_directories):
        cfg.ConfigParser(path, assigned).parse()
    return assigned


def all_options() -> Iterator[tuple[str | None, Sequence[cfg.Opt]]]:
    """All options but oslo.log's, which registers its own, and oslo.messaging's: (group, None for DEFAULT; options)."""
    for module in _GROUPS:
        yield module.GROUP, module.OPTIONS
    yield "oslo_messaging", oslo_messaging.OWN_OPTIONS
    yield "database", database_options.database_opts
    yield from oslo_middleware.opts.list_opts_cors()
    yield from oslo_middleware.opts.list_opts_healthcheck()
    yield from oslo_middleware.opts.list_opts_http_proxy_to_wsgi()
    yield from oslo_middleware.opts.list_opts_sizelimit()
    yield from oslo_policy.opts.list_opts()


def options_of(conf: cfg.ConfigOpts) -> Iterator[tuple[str | None, cfg.Opt]]:
    """Every option that has a value in this configuration, with its group (None for DEFAULT)."""
    for group, option in _known_options(conf):
        if option.dest in (conf[group] if group else conf):
            yield group, option


def _known_options(conf: cfg.ConfigOpts) -> Iterator[tuple[str | None, cfg.Opt]]:
    late = [*auth_plugins.plugin_options(conf), *(oslo_messaging.options() if "transport_url" in conf else [])]
    for group, options in chain(all_options(), log_options.list_opts(), late):
        yield from ((group, option) for option in options)


def _known_names(conf: cfg.ConfigOpts) -> Iterator[tuple[str, str]]:
    """Every (group, name) by which a file may set an option, old names too."""
    for group, option in _known_options(conf):
        yield group or "DEFAULT", option.dest
        yield from ((old.group or group or "DEFAULT", old.name or option.dest) for old in option.deprecated_opts)


def _mistakes(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Read every option once: oslo.config checks a value only when it is read."""
    if conf.prog in NEED_HEARTBEAT_KEY and not conf.health_manager.heartbeat_key:
        yield "[health_manager] heartbeat_key: not set; it must be the same on every controller"
    groups = {name: conf[name] for name in {group for group, _ in _known_options(conf) if group}}
    for group, options in ({"DEFAULT": conf} | groups).items():
        for name in options:
            try:
                options[name]
            except (cfg.Error, ValueError) as error:
                yield f"[{group}] {name}: {error}"
