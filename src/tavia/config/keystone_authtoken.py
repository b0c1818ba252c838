"""[keystone_authtoken]: how tokens are checked with Keystone. All of it is keystonemiddleware's and keystoneauth's."""

from __future__ import annotations

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
