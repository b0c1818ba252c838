"""[tavia]: what Octavia has no option for."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "tavia"
OPTIONS = [
    cfg.StrOpt("state_dir", help="Directory of the local cloud that `tavia up` started: sockets, sandboxes, logs."),
    cfg.FloatOpt(
        "lease_ttl",
        default=30.0,
        min=1.0,
        help="Seconds for which a worker holds a load balancer without renewing. A dead worker's work is taken over "
        "after that long.",
    ),
    cfg.FloatOpt(
        "step_deadline",
        default=30.0,
        min=1.0,
        help="Seconds of a step after which its worker lets go. What it asks the cloud and agents for ends in nine "
        "tenths of that, and is shown to have failed.",
    ),
    cfg.FloatOpt("poll_interval", default=1.0, min=0.05, help="Seconds between two looks for load balancers to do."),
    cfg.FloatOpt(
        "coalesce_interval",
        default=0.2,
        min=0.0,
        help="Seconds between two convergences of one load balancer, so that a burst of changes is applied together.",
    ),
    cfg.FloatOpt(
        "retry_pending_seconds",
        default=300.0,
        min=0.0,
        help="Seconds for which a failing change stays PENDING before it shows ERROR. It is tried on in either.",
    ),
    cfg.FloatOpt(
        "retry_interval_max", default=60.0, min=1.0, help="Most seconds between two tries of a failing change."
    ),
    cfg.FloatOpt(
        "orphan_grace",
        default=3600.0,
        min=0.0,
        help="Seconds after which a cloud resource that no row names is removed. It is reported at once.",
    ),
    cfg.StrOpt(
        "metrics_bind_host",
        default="127.0.0.1",
        help="Address on which each service shows its metrics to Prometheus, where it has a port for them. They name "
        "no tenant, but nobody is asked who they are.",
    ),
    *(
        cfg.PortOpt(f"{service}_metrics_port", min=1, help=f"Port for the metrics of {program}; unset: not served.")
        for service, program in (
            ("api", "tavia-api"),
            ("worker", "tavia-worker"),
            ("health_manager", "tavia-health-manager"),
            ("housekeeping", "tavia-housekeeping"),
        )
    ),
    cfg.BoolOpt(
        "noauth_bind_anywhere",
        default=False,
        help="Let the API listen on any address with auth_strategy = noauth. Whoever reaches it is an administrator.",
    ),
    cfg.ListOpt(
        "allowed_hosts",
        default=[],
        help="With auth_strategy = noauth: names, without port, by which the API is addressed beside localhost, "
        "loopback addresses and bind_host. A request for another name is refused: it may come from a web page.",
    ),
    cfg.IntOpt("max_workers", default=8, min=1, help="Load balancers that one worker process converges at a time."),
    cfg.FloatOpt(
        "service_report_interval",
        default=10.0,
        min=0.1,
        mutable=True,
        help="Seconds between two times that a service says that it is there.",
    ),
    cfg.FloatOpt(
        "service_down_time",
        default=60.0,
        min=1.0,
        mutable=True,
        help="Seconds of silence after which a service counts as down. More than two service_report_interval.",
    ),
]
