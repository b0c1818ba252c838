"""oslo.messaging's groups and Octavia's own [oslo_messaging], registered for who names a message bus.

Importing oslo.messaging costs half a second and warns about eventlet: a machine without a message bus pays nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence

from oslo_config import cfg

OWN_OPTIONS = [
    cfg.StrOpt(
        "topic",
        default="octavia_prov",
        help="First part of the topic of wake-ups. Deployments that share a virtual host of RabbitMQ need one each.",
    )
]

DEFAULTS = {"rabbit_interval_max": 5, "rabbit_transient_queues_ttl": 60}
"""In [oslo_messaging_rabbit], in seconds. A hint is soon worth nothing: come back fast, and leave no queue behind."""


def is_named(sections: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether configuration files, or oslo.config's environment, name a message bus or how to use one."""
    return (
        "transport_url" in sections.get("DEFAULT", {})
        or any(section.startswith("oslo_messaging_") for section in sections)
        or any(name.startswith(("OS_DEFAULT__TRANSPORT_URL", "OS_OSLO_MESSAGING_")) for name in os.environ)
    )


def options() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """The groups (None for DEFAULT) and their options."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oslo_messaging import opts  # noqa: PLC0415
        from oslo_messaging._metrics import client as metrics  # noqa: PLC0415
        from oslo_messaging._tracing import client as tracing  # noqa: PLC0415
    return [
        *opts.list_opts(),  # type: ignore[no-untyped-call]
        # oslo.messaging reads these two of any configuration, and registers them in the global one only
        ("oslo_messaging_metrics", metrics.oslo_messaging_metrics),
        ("oslo_messaging_tracing", tracing.oslo_messaging_tracing),
    ]


def set_defaults(conf: cfg.ConfigOpts) -> None:
    """Ours, after :func:`options` were registered. No transport_url is none, and not a RabbitMQ on this machine."""
    conf.set_default("transport_url", None)
    conf.set_default("control_exchange", "octavia")
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group="oslo_messaging_rabbit")
