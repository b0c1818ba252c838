"""What keepalived is told; keepalived itself accepts every configuration here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trees import NETWORK, PAIRED, listener, pair, pool, tree

from tavia.amphora.bundle import Fence
from tavia.model.resources import Amphora
from tavia.render import RenderSettings, VipNetwork, render_bundle

IPV6 = VipNetwork(cidr="2001:db8::/64", gateway_ip="2001:db8::1", host_routes=(), mtu=1500)
Accepts = Callable[[str], str]


def conf(
    me: Amphora, peer: Amphora | None, network: VipNetwork = NETWORK, vip: str = "10.20.0.9", **chosen: float
) -> str:
    wanted = tree(listener(), pool(), topology=PAIRED, vip_address=vip)
    settings = RenderSettings(**chosen)  # type: ignore[arg-type]
    return render_bundle(wanted, me, peer, network, settings, Fence(1, 1, "worker")).files["keepalived.conf"]


def words(text: str) -> str:
    return " ".join(text.split())


def test_one_half_of_a_pair_reads_like_this(keepalived_accepts: Accepts) -> None:
    master, backup = pair()
    text = conf(master, backup)
    keepalived_accepts(text)
    assert words(text) == (
        "global_defs { router_id amphora-1 vrrp_version 3 vrrp_notify_fifo /run/tavia/vrrp.fifo"
        " vrrp_garp_lower_prio_delay 1 vrrp_garp_master_refresh 5 vrrp_garp_master_refresh_repeat 2 }"
        " track_file haproxy { file /run/tavia/haproxy.track weight 1 init_file 0 }"
        " vrrp_instance lb { state BACKUP nopreempt interface eth1 virtual_router_id 1 priority 254 advert_int 1"
        " unicast_src_ip 10.20.0.5 unicast_peer { 10.20.0.6 } check_unicast_src track_file { haproxy }"
        " virtual_ipaddress { 10.20.0.9/32 dev eth1 } }"
    )


def test_its_row_may_name_another_virtual_router() -> None:
    master, backup = pair()
    master.vrrp_id = 7
    assert "virtual_router_id 7" in words(conf(master, backup))


def test_the_two_halves_advertise_to_each_other_only(keepalived_accepts: Accepts) -> None:
    master, backup = pair()
    text = words(conf(master, backup))
    keepalived_accepts(conf(master, backup))
    assert "unicast_src_ip 10.20.0.5 unicast_peer { 10.20.0.6 }" in text
    assert "virtual_ipaddress { 10.20.0.9/32 dev eth1 }" in text
    assert "unicast_src_ip 10.20.0.6 unicast_peer { 10.20.0.5 }" in words(conf(backup, master))


def test_whoever_serves_keeps_the_vip_and_the_backup_hardly_waits() -> None:
    master, backup = pair()
    assert "state BACKUP nopreempt" in words(conf(master, backup))
    assert "priority 254" in conf(master, backup)
    assert "state BACKUP nopreempt" in words(conf(backup, master))
    assert "priority 253" in conf(backup, master)


def test_alone_it_advertises_to_nobody_and_never_falls_back_to_multicast(keepalived_accepts: Accepts) -> None:
    master, backup = pair()
    without_address = backup
    without_address.vrrp_ip = None
    for peer in (None, without_address):
        text = conf(master, peer)
        assert "unicast_peer { 127.0.0.1 }" in words(text)
        assert "multicast" not in keepalived_accepts(text)


def test_ipv6(keepalived_accepts: Accepts) -> None:
    master, backup = pair("2001:db8::5", "2001:db8::6")
    text = conf(master, backup, IPV6, vip="2001:db8::9")
    keepalived_accepts(text)
    assert "virtual_ipaddress { 2001:db8::9/128 dev eth1 }" in words(text)
    alone = conf(master, None, IPV6, vip="2001:db8::9")
    keepalived_accepts(alone)
    assert "unicast_peer { ::1 }" in words(alone)


def test_vips_of_both_families_move_together(keepalived_accepts: Accepts) -> None:
    master, backup = pair()
    further = [{"ip_address": ip, "subnet_id": "s"} for ip in ("2001:db8::9", "10.20.0.10")]
    wanted = tree(listener(), topology=PAIRED, additional_vips=further)
    bundle = render_bundle(wanted, master, backup, NETWORK, RenderSettings(), Fence(1, 1, "worker"))
    text = bundle.files["keepalived.conf"]
    keepalived_accepts(text)
    assert "virtual_ipaddress { 10.20.0.9/32 dev eth1 }" in words(text)
    assert "virtual_ipaddress_excluded { 2001:db8::9/128 dev eth1 10.20.0.10/32 dev eth1 }" in words(text)


@pytest.mark.parametrize(("seconds", "shown"), [(1.0, "1"), (0.1, "0.1"), (0.01, "0.01")])
def test_intervals_below_a_second(keepalived_accepts: Accepts, seconds: float, shown: str) -> None:
    text = conf(*pair(), vrrp_advert_int=seconds)
    keepalived_accepts(text)
    assert f"advert_int {shown}\n" in text


def test_the_vip_is_given_up_by_the_file_that_the_agent_writes_and_told_by_a_fifo() -> None:
    text = words(conf(*pair()))
    assert "file /run/tavia/haproxy.track weight 1 init_file 0" in text
    assert "vrrp_notify_fifo /run/tavia/vrrp.fifo" in text


def test_gratuitous_arps_are_repeated_as_configured(keepalived_accepts: Accepts) -> None:
    text = conf(*pair(), garp_refresh_interval=7, garp_refresh_count=3)
    keepalived_accepts(text)
    assert "vrrp_garp_master_refresh 7 vrrp_garp_master_refresh_repeat 3" in words(text)
