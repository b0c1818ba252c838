"""[service_auth]: as whom Tavia asks Nova, Glance, Cinder and Neutron. The plugin's own options: auth_plugins."""

from __future__ import annotations

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = "service_auth"

_SESSION = ("cafile", "certfile", "keyfile", "insecure", "timeout")

OPTIONS: list[cfg.Opt] = [
    *loading.get_auth_common_conf_options(),
    *(option for option in loading.get_session_conf_options() if option.dest in _SESSION),
]
