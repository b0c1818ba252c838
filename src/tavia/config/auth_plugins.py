"""The groups that log in to Keystone: the options of keystoneauth's plugin that each names, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keystoneauth1 import loading
from keystoneauth1.exceptions import NoMatchingPlugin
from oslo_config import cfg

from tavia.config import keystone_authtoken, neutron, service_auth


def plugin_options(conf: cfg.ConfigOpts) -> Iterator[tuple[str, Sequence[cfg.Opt]]]:
    """What the plugins named by ``auth_type`` take, and in which group; registers ``auth_type``. Raises ValueError."""
    yield _options_of(conf, keystone_authtoken.GROUP)
    yield _options_of(conf, service_auth.GROUP)
    if neutron.logs_in_itself(conf):
        yield _options_of(conf, neutron.GROUP)


def section(conf: cfg.ConfigOpts, group: str) -> str:
    """The group where the credentials of ``group`` stand."""
    where: str = conf[group].auth_section or group
    return where


def _options_of(conf: cfg.ConfigOpts, group: str) -> tuple[str, Sequence[cfg.Opt]]:
    where = section(conf, group)
    common = loading.get_auth_common_conf_options()
    conf.register_opts(common, group=where)
    name: str | None = conf[where].auth_type
    if name is None:
        return where, common
    try:
        return where, [*common, *loading.get_auth_plugin_conf_options(loading.get_plugin_loader(name))]
    except NoMatchingPlugin:
        raise ValueError(f"[{where}] auth_type: there is no plugin {name}; the usual one is password") from None
