"""[neutron]: how networking is reached. With auth_type or auth_section it has its own login, else [service_auth]'s."""

from __future__ import annotations

from keystoneauth1 import loading
from oslo_config import cfg

from tavia.config import service_auth

GROUP = "neutron"

_ADAPTER = ("service_name", "valid_interfaces", "region_name", "endpoint_override")

OPTIONS: list[cfg.Opt] = [
    *service_auth.OPTIONS,
    *(option for option in loading.get_adapter_conf_options(include_deprecated=False) if option.dest in _ADAPTER),
    cfg.StrOpt("endpoint", help="Old name of endpoint_override."),
    cfg.StrOpt(
        "endpoint_type", help="The same as valid_interfaces, in the old form: publicURL, internalURL, adminURL."
    ),
    cfg.StrOpt("ca_certificates_file", help="Old name of cafile."),
]


def logs_in_itself(conf: cfg.ConfigOpts) -> bool:
    """Whether the group has credentials of its own, or names the group that has."""
    return bool(conf[GROUP].auth_section or conf[GROUP].auth_type)
