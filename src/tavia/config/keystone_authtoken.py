"""[keystone_authtoken]: how tokens are checked with Keystone. All of it is keystonemiddleware's and keystoneauth's."""

from __future__ import annotations

from collections.abc import Sequence

from keystoneauth1 import loading
from keystoneauth1.exceptions import NoMatchingPlugin
from keystonemiddleware import auth_token
from oslo_config import cfg

GROUP = "keystone_authtoken"
OPTIONS: list[cfg.Opt] = dict(auth_token.list_opts())[GROUP]  # type: ignore[no-untyped-call]
DEFAULTS = {
    # Keystonemiddleware waits for ever, which would take the API's threads along.
    "http_connect_timeout": 10,
    # A thread that used oslo.cache's pool never ends on Python 3.11, so the service would not stop.
    "memcache_use_advanced_pool": False,
}
"""Where Tavia's defaults are not keystonemiddleware's."""


def plugin_options(conf: cfg.ConfigOpts) -> tuple[str, Sequence[cfg.Opt]]:
    """The options by which the plugin named ``auth_type`` logs in, and their group. Raises ValueError."""
    group: str = conf[GROUP].auth_section or GROUP
    common = loading.get_auth_common_conf_options()
    conf.register_opts(common, group=group)
    name: str | None = conf[group].auth_type
    if name is None:
        return group, common
    try:
        return group, [*common, *loading.get_auth_plugin_conf_options(loading.get_plugin_loader(name))]
    except NoMatchingPlugin:
        raise ValueError(f"[{group}] auth_type: there is no plugin {name}; the usual one is password") from None
