"""Hashes of the configuration, a group each, by which services tell whether they are configured alike.

They stand in the table ``service``, so they must not help to guess a secret: a secret's value goes through scrypt,
salted with the deployment's id, before it goes into its group's hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache

from oslo_config import cfg
from oslo_log import _options as log_options

from tavia import config
from tavia.config.reloading import value_of
from tavia.config.secrecy import is_secret

NODES_OWN: frozenset[tuple[str, str]] = frozenset(
    {
        *(("DEFAULT", option.dest) for _, options in log_options.list_opts() for option in options),
        ("DEFAULT", "host"),
        ("DEFAULT", "graceful_shutdown_timeout"),
        ("api_settings", "bind_host"),
        ("api_settings", "bind_port"),
        ("certificates", "ca_certificate"),
        ("certificates", "ca_private_key"),
        ("controller_worker", "client_ca"),
        ("haproxy_amphora", "client_cert"),
        ("haproxy_amphora", "server_ca"),
        ("health_manager", "bind_ip"),
        ("health_manager", "bind_port"),
        ("oslo_messaging_rabbit", "hostname"),
        ("oslo_messaging_rabbit", "processname"),
        ("tavia", "max_workers"),
        ("tavia", "metrics_bind_host"),
        ("tavia", "api_metrics_port"),
        ("tavia", "worker_metrics_port"),
        ("tavia", "health_manager_metrics_port"),
        ("tavia", "housekeeping_metrics_port"),
        ("tavia", "state_dir"),
    }
)
"""What may differ from node to node: who I am, where I listen, where my files are, how I log, how large I am."""

TLS_FILES = frozenset(
    {"cafile", "ca_certificates_file", "certfile", "keyfile", "ssl_ca_file", "ssl_cert_file", "ssl_key_file"}
)
"""In any group: where a node keeps its certificates."""

NOT_USED: Mapping[str, frozenset[str]] = {
    "tavia-api": frozenset({"certificates", "house_keeping", "keepalived_vrrp"}),
    "tavia-worker": frozenset({"api_settings", "quotas"}),
    "tavia-health-manager": frozenset(
        {"api_settings", "certificates", "house_keeping", "keepalived_vrrp", "quotas", "networking"}
    ),
    "tavia-housekeeping": frozenset({"api_settings", "keepalived_vrrp", "quotas", "networking"}),
}
"""The groups that a service never reads, where a node may have a file of its own for each service."""

OF_THE_API_ALONE = frozenset(
    {
        "audit",
        "audit_middleware_notifications",
        "cors",
        "healthcheck",
        "keystone_authtoken",
        "oslo_middleware",
        "oslo_policy",
    }
)

_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
"""About 50 ms and 16 MiB for one guess."""


def group_hashes(conf: cfg.ConfigOpts, salt: str) -> dict[str, str]:
    """For each group: SHA-256 of its effective values, without :data:`NODES_OWN`, as 16 hexadecimal digits.

    ``salt`` is the deployment's id: equal configurations of two deployments differ.
    """
    values: dict[str, dict[str, str]] = {}
    for group, option in config.options_of(conf):
        name = group or "DEFAULT"
        if (name, option.dest) not in NODES_OWN and option.dest not in TLS_FILES:
            values.setdefault(name, {})[option.dest] = _shown(conf, group, option, salt)
    return {name: _digest(salt, group) for name, group in values.items()}


def config_hash(hashes: Mapping[str, str]) -> str:
    """One hash over those of all groups: equal wherever the whole octavia.conf is."""
    return _digest("", hashes)


def used_by(prog: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Only the groups that the service ``prog`` reads."""
    unused = NOT_USED[prog] | (frozenset() if prog == "tavia-api" else OF_THE_API_ALONE)
    return {group: digest for group, digest in hashes.items() if group not in unused}


def _digest(salt: str, values: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([salt, sorted(values.items())]).encode()).hexdigest()[:16]


def _shown(conf: cfg.ConfigOpts, group: str | None, option: cfg.Opt, salt: str) -> str:
    value = value_of(conf, group, option)
    if value and is_secret(option, value):
        return _slow(f"{salt}/{group}/{option.dest}", str(value))
    return json.dumps(value, sort_keys=True, default=str)


@lru_cache
def _slow(salt: str, value: str) -> str:
    return hashlib.scrypt(value.encode(), salt=salt.encode(), **_SCRYPT).hex()
