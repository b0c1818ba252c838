"""Options by which Nova, Glance and Cinder are found in Keystone's catalog, in a group each."""

from __future__ import annotations

from oslo_config import cfg


def options(service: str) -> list[cfg.Opt]:
    """Those of one service's group."""
    return [
        cfg.StrOpt("service_name", help=f"Name of {service} in the catalog; unset: any of its type."),
        cfg.StrOpt("endpoint", help=f"Address of {service}, instead of the catalog's."),
        cfg.StrOpt("region_name", help="Region in the catalog; unset: the first."),
        cfg.StrOpt("endpoint_type", default="publicURL", help="publicURL, internalURL or adminURL."),
        cfg.StrOpt(
            "ca_certificates_file",
            help=f"File with the certificates (PEM) of the authorities trusted for {service} and for Keystone; unset: "
            "[service_auth] cafile.",
        ),
        cfg.BoolOpt("insecure", default=False, help=f"Trust any certificate of {service}: for tests only."),
    ]
