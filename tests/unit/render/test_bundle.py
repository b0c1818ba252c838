"""The bundle around the files."""

from __future__ import annotations

from typing import Any

import pytest
from trees import NETWORK, PAIRED, amphora, listener, member, pair, pool, tree

from tavia.amphora.bundle import Bundle, Fence, Interface
from tavia.model.member_ports import MemberPort, as_column
from tavia.model.seams import Seam, SeamError
from tavia.render import RenderSettings, VipNetwork, render_bundle
from tavia.render.settings import VipSubnet

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
    assert "    interface eth1\n" in made.files["keepalived.conf"]
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


@pytest.mark.parametrize(
    ("of_the_amphora", "of_the_vip"), [({"vrrp_ip": None}, {}), ({"vrrp_mac": None}, {}), ({}, {"vip_address": None})]
)
def test_an_amphora_without_an_address_is_an_error_of_control(
    of_the_amphora: dict[str, Any], of_the_vip: dict[str, Any]
) -> None:
    with pytest.raises(SeamError) as caught:
        render_bundle(tree(**of_the_vip), amphora(**of_the_amphora), None, NETWORK, RenderSettings(), FENCE)
    assert (caught.value.seam, caught.value.code) == (Seam.CONTROL, "amphora-incomplete")


def test_additional_vips_have_addresses_of_the_amphora_on_their_subnets_and_the_way_out_of_the_other_ip_version() -> (
    None
):
    of_vip = {"ip_address": "2001:db8::9", "subnet_id": "six"}
    own = amphora(additional_ips=[{"ip_address": "2001:db8::5", "subnet_id": "six"}])
    network = VipNetwork(
        cidr="10.20.0.0/24",
        gateway_ip="10.20.0.1",
        host_routes=(("192.0.2.0/24", "10.20.0.2"),),
        mtu=1450,
        additional=(
            VipSubnet(id="six", cidr="2001:db8::/64", gateway_ip="2001:db8::1", host_routes=()),
            VipSubnet(id="four", cidr="10.21.0.0/24", gateway_ip="10.21.0.1", host_routes=(("::1/128", "::2"),)),
        ),
    )
    made = render_bundle(tree(additional_vips=[of_vip]), own, None, network, RenderSettings(), FENCE)
    (interface,) = made.interfaces
    assert interface.addresses == ("10.20.0.5/24", "2001:db8::5/64")
    assert interface.vips == ("10.20.0.9/32", "2001:db8::9/128")
    assert interface.routes == (
        ("0.0.0.0/0", "10.20.0.1"),
        ("::/0", "2001:db8::1"),
        ("192.0.2.0/24", "10.20.0.2"),
        ("::1/128", "::2"),
    )


def test_an_interface_on_a_members_subnet_is_there_once_its_port_is_and_while_a_member_is() -> None:
    def port(subnet_id: str, interface: str, port_id: str | None = "port") -> MemberPort:
        told = {
            "mac": "fa:16:3e:00:00:07",
            "address": "10.30.0.7/24",
            "mtu": 1400,
            "routes": (("10.31.0.0/24", "10.30.0.1"),),
        }
        return MemberPort(subnet_id=subnet_id, interface=interface, port_id=port_id, **told)  # type: ignore[arg-type]

    ports = as_column([port("used", "eth2"), port("unused", "eth3"), port("asked-for", "eth4", None)])
    rows = [listener(), pool(), member(subnet_id="used"), member("m2", subnet_id="asked-for")]
    made = render_bundle(tree(*rows), amphora(member_ports=ports), None, NETWORK, RenderSettings(), FENCE)
    assert made.interfaces[1:] == (
        Interface(
            name="eth2",
            mac="fa:16:3e:00:00:07",
            mtu=1400,
            addresses=("10.30.0.7/24",),
            routes=(("10.31.0.0/24", "10.30.0.1"),),
        ),
    )
