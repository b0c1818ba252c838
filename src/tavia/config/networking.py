"""[networking]: which VIPs users may ask for, and how ports are guarded."""

from __future__ import annotations

from oslo_config import cfg, types

GROUP = "networking"
OPTIONS = [
    cfg.BoolOpt("allow_vip_network_id", default=True, help="A user may ask for a VIP by vip_network_id."),
    cfg.BoolOpt("allow_vip_subnet_id", default=True, help="A user may ask for a VIP by vip_subnet_id."),
    cfg.BoolOpt("allow_vip_port_id", default=True, help="A user may bring a port for the VIP by vip_port_id."),
    cfg.ListOpt("valid_vip_networks", help="Ids of the only networks that a VIP may be on. Unset: any."),
    cfg.ListOpt("denylist_vip_networks", default=[], help="Ids of networks that no VIP may be on."),
    cfg.ListOpt(
        "reserved_ips",
        item_type=types.IPAddress(),
        default=["169.254.169.254"],
        help="Addresses that no member may have, such as the cloud's metadata service.",
    ),
    cfg.BoolOpt(
        "allow_invisible_resource_usage",
        default=False,
        help="Users may name networks, subnets and ports that they themselves cannot see.",
    ),
    cfg.BoolOpt(
        "use_remote_group_for_lb_peer_ports",
        default=True,
        help="The two amphorae of a load balancer let VRRP in from each other alone; false: from anywhere, for a "
        "Neutron without remote groups.",
    ),
]
