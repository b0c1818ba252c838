"""SIGHUP: the configuration files are read again, and options that may change while a service runs do.

All or nothing: a file with a mistake in it changes nothing. The service's log says what changed, what would take a
restart, and never what a secret is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from tavia import config
from tavia.config.secrecy import is_secret

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """An option whose value in the files is no longer the one in use."""

    group: str
    option: cfg.Opt
    old: Any
    new: Any

    def __str__(self) -> str:
        """For the log: without a secret's value."""
        name = f"[{self.group}] {self.option.dest}"
        if is_secret(self.option, self.old) or is_secret(self.option, self.new):
            return f"{name} (a secret)"
        return f"{name} from {self.old} to {self.new}"


def reload(conf: cfg.ConfigOpts) -> None:
    """Take over from the files what is mutable, and log what came of it. Raises nothing."""
    try:
        _reload(conf)
    except config.Mistakes as mistakes:
        LOG.error("The configuration is not reloaded, all of it stays as it was: %s", mistakes)
    except Exception:
        LOG.exception("The configuration could not be reloaded")


def _reload(conf: cfg.ConfigOpts) -> None:
    fresh = config.parse(conf._args, conf.prog, conf.default_config_files)
    changes = list(_changes(conf, fresh))
    with _silence(logging.getLogger("oslo_config.cfg")):  # it would log a secret's old and new value
        conf.mutate_config_files()
    conf.register_opts([])  # clears its cache: a thread that read an option during the line before cached the old value
    config.log_values(conf)
    changed = [change for change in changes if change.option.mutable]
    LOG.info("Configuration reloaded; changed: %s", ", ".join(map(str, changed)) or "nothing")
    ignored = [change for change in changes if not change.option.mutable]
    if ignored:
        LOG.warning("Not changed, it takes a restart: %s", ", ".join(map(str, ignored)))


def _changes(conf: cfg.ConfigOpts, fresh: cfg.ConfigOpts) -> Iterator[Change]:
    still_there = {(group, option.dest) for group, option in config.options_of(fresh)}
    for group, option in config.options_of(conf):
        if (group, option.dest) not in still_there:
            continue  # of an authentication plugin that is no longer the one named
        old, new = value_of(conf, group, option), value_of(fresh, group, option)
        if old != new:
            yield Change(group or "DEFAULT", option, old, new)


def value_of(conf: cfg.ConfigOpts, group: str | None, option: cfg.Opt) -> Any:
    """The value in use; ``group`` None is DEFAULT."""
    return conf[group][option.dest] if group else conf[option.dest]


@contextmanager
def _silence(logger: logging.Logger) -> Iterator[None]:
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False
