"""[api_settings]: how the HTTP API is served and what it lets users do."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "api_settings"
OPTIONS = [
    cfg.IPOpt("bind_host", default="127.0.0.1", help="Address that the API listens on."),
    cfg.PortOpt("bind_port", default=9876, help="Port that the API listens on."),
    cfg.StrOpt(
        "auth_strategy",
        default="keystone",
        choices=[
            ("noauth", "Nobody is asked who they are. Only for a loopback address."),
            ("keystone", "Tokens are checked with Keystone."),
            ("testing", "As noauth."),
        ],
        help="How a request proves whose it is.",
    ),
    cfg.StrOpt(
        "api_base_uri",
        help="Start of the links in answers, such as https://lb.example.org. Unset: as the client addressed the API.",
    ),
    cfg.BoolOpt("allow_pagination", default=True, help="Honour limit, marker and page_reverse in lists."),
    cfg.BoolOpt("allow_sorting", default=True, help="Honour sort, sort_key and sort_dir in lists."),
    cfg.BoolOpt("allow_filtering", default=True, help="Honour attributes as filters in lists."),
    cfg.BoolOpt("allow_field_selection", default=True, help="Honour fields, which selects the attributes shown."),
    cfg.StrOpt(
        "pagination_max_limit", default="1000", help="Most items on one page of a list; 'infinite' for no limit."
    ),
    cfg.DictOpt(
        "enabled_provider_drivers",
        default={
            "amphora": "The Octavia Amphora driver.",
            "octavia": "Deprecated alias of the Octavia Amphora driver.",
        },
        help="Providers that users may choose, each with the description that they are shown.",
    ),
    cfg.StrOpt("default_provider_driver", default="amphora", help="Provider of a load balancer that names none."),
    cfg.BoolOpt("healthcheck_enabled", default=False, help="Serve /healthcheck without authentication."),
    cfg.IntOpt(
        "healthcheck_refresh_interval", default=5, min=0, help="Seconds for which /healthcheck repeats its last result."
    ),
    cfg.BoolOpt(
        "immutable_while_pending",
        default=False,
        help="Refuse changes (409) to a load balancer while one is in progress, as Octavia does. Tavia otherwise "
        "accepts them and applies them together.",
    ),
]
