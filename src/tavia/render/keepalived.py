"""keepalived.conf of one half of an ACTIVE_STANDBY pair (keepalived 2.2).

VRRPv3 for all (RFC 5798): it knows IPv6 and intervals below a second. Unicast, because clouds carry no multicast.
Both begin as BACKUP with ``nopreempt``: whoever serves keeps the VIP. Their priorities lie at the top and next to
each other, because a backup waits (256 - priority) / 256 advert intervals longer (namespaces 2).
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from tavia.amphora.paths import TRACK_FILE, VRRP_FIFO
from tavia.model.resources import Amphora
from tavia.model.statuses import Role
from tavia.render.settings import RenderSettings

VRRP_PRIORITY = {Role.STANDALONE: 254, Role.MASTER: 254, Role.BACKUP: 253}
"""What an amphora's role means to VRRP."""


def render_keepalived(
    amphora: Amphora,
    *,
    address: str,
    peer_address: str | None,
    interface: str,
    vips: list[str],
    settings: RenderSettings,
) -> str:
    """The configuration of ``amphora``, which has ``address`` on ``interface``.

    ``vips`` (with prefix length) are added and taken away together. The track file's content is added to the
    priority; from -254 down keepalived gives up the VIPs (FAULT).
    """
    # Two masters: the one that stays may have announced the VIP before the other did. It does so again a second later.
    # Without a router id keepalived asks DNS for the host's name, which takes 10 s where no server answers.
    # Without any peer keepalived would fall back to multicast; adverts to the loopback address reach nobody.
    nobody = "::1" if isinstance(ip_address(address), IPv6Address) else "127.0.0.1"
    advertised, *others = vips
    excluded = [f"    virtual_ipaddress_excluded {{\n{_addresses(others, interface)}\n    }}"] if others else []
    return "\n".join(
        [
            _GLOBAL.format(amphora=amphora, settings=settings, fifo=VRRP_FIFO, file=TRACK_FILE),
            f"vrrp_instance {amphora.loadbalancer_id} {{",
            "    state BACKUP",
            "    nopreempt",
            f"    interface {interface}",
            f"    virtual_router_id {amphora.vrrp_id or 1}",
            f"    priority {VRRP_PRIORITY[amphora.role or Role.BACKUP]}",
            f"    advert_int {settings.vrrp_advert_int:g}",
            f"    unicast_src_ip {address}",
            f"    unicast_peer {{\n        {peer_address or nobody}\n    }}",
            "    check_unicast_src",
            "    track_file {\n        haproxy\n    }",
            f"    virtual_ipaddress {{\n{_addresses([advertised], interface)}\n    }}",
            *excluded,
            "}\n",
        ]
    )


def _addresses(vips: list[str], interface: str) -> str:
    return "\n".join(f"        {vip} dev {interface}" for vip in vips)


_GLOBAL = """\
global_defs {{
    router_id {amphora.id}
    vrrp_version 3
    vrrp_notify_fifo {fifo}
    vrrp_garp_lower_prio_delay 1
    vrrp_garp_master_refresh {settings.garp_refresh_interval}
    vrrp_garp_master_refresh_repeat {settings.garp_refresh_count}
}}

track_file haproxy {{
    file {file}
    weight 1
    init_file 0
}}
"""
