"""[haproxy_amphora]: talking to an amphora's agent, and what its HAProxy does by default."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "haproxy_amphora"
OPTIONS = [
    cfg.PortOpt("bind_port", default=9443, help="Port of the amphora's agent. It listens on its management address."),
    cfg.StrOpt(
        "lb_network_interface",
        default="o-hm0",
        help="This controller's interface on the management network. Only tavia doctor reads it: amphorae have no "
        "link-local addresses there.",
    ),
    cfg.IntOpt(
        "connection_max_retries",
        default=120,
        min=1,
        help="How often the agent of a server that runs is tried before the amphora is given up.",
    ),
    cfg.IntOpt("connection_retry_interval", default=5, min=1, help="Seconds between two such tries."),
    cfg.IntOpt("build_rate_limit", default=-1, min=-1, help="Amphorae that Nova may build at a time; -1: any number."),
    cfg.StrOpt(
        "client_cert",
        default="/etc/octavia/certs/client.pem",
        help="File with this controller's certificate and private key (PEM), shown to agents.",
    ),
    cfg.StrOpt(
        "server_ca",
        default="/etc/octavia/certs/server_ca.pem",
        help="File with the certificates (PEM) of the authorities whose amphora certificates are trusted.",
    ),
    cfg.FloatOpt("rest_request_conn_timeout", default=10, min=0, help="Seconds for TCP and TLS with an agent."),
    cfg.FloatOpt(
        "rest_request_read_timeout",
        default=60,
        min=0,
        help="Seconds for an agent's whole answer, after those for the connection.",
    ),
    cfg.IntOpt(
        "default_connection_limit",
        default=50000,
        min=1,
        help="Connections of a listener whose connection_limit is -1 or 0. An amphora that may open too few files "
        "takes fewer.",
    ),
    cfg.StrOpt("haproxy_stick_size", default="10k", help="Entries of a stick table, in HAProxy's notation."),
    cfg.BoolOpt("connection_logging", default=True, help="Log every connection that an amphora serves."),
    cfg.StrOpt(
        "user_log_format",
        default="{{ project_id }} {{ lb_id }} %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] "
        "%b %s %Tt %tsc",
        help="Form of a line in that log: HAProxy's log-format, with project_id and lb_id in double braces.",
    ),
    cfg.IntOpt(
        "timeout_client_data", default=50000, min=0, help="A listener's timeout_client_data where it names none, in ms."
    ),
    cfg.IntOpt("timeout_member_connect", default=5000, min=0, help="The same of timeout_member_connect, in ms."),
    cfg.IntOpt("timeout_member_data", default=50000, min=0, help="The same of timeout_member_data, in ms."),
    cfg.IntOpt("timeout_tcp_inspect", default=0, min=0, help="The same of timeout_tcp_inspect, in ms."),
]
