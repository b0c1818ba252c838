"""The bundle around the files."""

from __future__ import annotations

from typing import Any

import pytest
from trees import NETWORK, PAIRED, amphora, listener, pair, pool, tree

from tavia.amphora.bundle import Bundle, Fence
from tavia.model.seams import Seam, SeamError
from tavia.render import RenderSettings, VipNetwork, render_bundle

FENCE = Fence(3, 4, "worker")


def bundle(network: VipNetwork = NETWORK, **given: Any) -> Bundle:
    return render_bundle(tree(listener(), pool(), **given), amphora(), None, network, RenderSettings(), FENCE)


def test_a_single_amphora_adds_the_vip_by_itself() -> None:
    made = bundle()
    (interface,) = made.interfaces
    assert set(made.files) == {"haproxy.cfg"}
    assert (interface.name, interface.mac, interface.mtu) == ("eth1", "fa:16:3e:00:00:05", 1450)
    assert interface.addresses == ("10.20.0.5/24",)
    assert interface.vips == ("10.20.0.9/32",)
    assert interface.routes == (("0.0.0.0/0", "10.20.0.1"),)


def test_in_a_pair_vrrp_adds_the_vip_also_while_the_other_half_is_missing() -> None:
    wanted = tree(listener(), pool(), topology=PAIRED)
    made = render_bundle(wanted, pair()[0], None, NETWORK, RenderSettings(), FENCE)
    assert set(made.files) == {"haproxy.cfg", "keepalived.conf"}
    assert made.interfaces[0].vips == ()


def test_routes_of_the_subnet_are_the_amphoras_too() -> None:
    routes = (("192.0.2.0/24", "10.20.0.2"),)
    made = bundle(VipNetwork(cidr="10.20.0.0/24", gateway_ip=None, host_routes=routes, mtu=1500))
    assert made.interfaces[0].routes == routes
    made = bundle(VipNetwork(cidr="2001:db8::/64", gateway_ip="2001:db8::1", host_routes=(), mtu=1500))
    assert made.interfaces[0].routes == (("::/0", "2001:db8::1"),)


def test_it_says_whose_it_is_and_at_which_generation() -> None:
    made = bundle()
    assert (made.amphora_id, made.loadbalancer_id, made.generation, made.fence) == ("amphora-1", "lb", 7, FENCE)
    assert Bundle.from_json(made.to_json()) == made


def test_an_equal_tree_of_a_later_generation_asks_for_the_same_amphora() -> None:
    assert bundle().hash == bundle(generation=8).hash


def test_a_vip_with_a_zone_brings_nothing_into_keepalived_conf() -> None:
    wanted = tree(topology=PAIRED, vip_address="fe80::9%x\n}")
    made = render_bundle(wanted, pair("fe80::5", "fe80::6")[0], None, NETWORK, RenderSettings(), FENCE)
    assert "        fe80::9/128 dev eth1\n" in made.files["keepalived.conf"]


def test_an_amphora_without_an_address_is_an_error_of_control() -> None:
    with pytest.raises(SeamError) as caught:
        render_bundle(tree(), amphora(vrrp_ip=None), None, NETWORK, RenderSettings(), FENCE)
    assert (caught.value.seam, caught.value.code) == (Seam.CONTROL, "amphora-incomplete")
