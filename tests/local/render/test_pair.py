"""Two rendered amphorae: VRRP moves the VIP, and clients stay with their members."""

from __future__ import annotations

from data_plane import CLIENTS, AmphoraHost, World, until
from trees import PAIRED, listener, member, pair, pool, tree

from tavia.amphora.bundle import Fence
from tavia.render import RenderSettings, VipNetwork, render_bundle

NETWORK = VipNetwork(cidr="10.20.0.0/24", gateway_ip=None, host_routes=(), mtu=1500)
VIP = "10.20.0.9"


def two_amphorae(world: World) -> tuple[AmphoraHost, AmphoraHost]:
    """The one that has the VIP first."""
    world.member("m1", 101)
    world.member("m2", 102)
    persistent = pool(session_persistence={"type": "SOURCE_IP"})
    members = (member("m1", address="10.20.0.101"), member("m2", address="10.20.0.102"))
    wanted = tree(listener(), persistent, *members, topology=PAIRED)
    settings = RenderSettings(vrrp_advert_int=0.1)
    halves = pair()
    first, second = (
        world.amphora(render_bundle(wanted, me, other, NETWORK, settings, Fence(1, 1, "w")))
        for me, other in (halves, halves[::-1])
    )
    until(lambda: first.has(VIP) != second.has(VIP))
    return (first, second) if first.has(VIP) else (second, first)


def test_the_backup_takes_over_and_clients_stay_with_their_members(world: World) -> None:
    master, backup = two_amphorae(world)
    held = {client: world.get("--interface", client)["member"] for client in CLIENTS[:4]}
    until(lambda: "used:4" in backup.ask("show table"))
    world.lab.ip(master.namespace, "link set eth1 down")
    until(lambda: backup.has(VIP))
    until(lambda: "member" in world.get())
    assert {client: world.get("--interface", client)["member"] for client in held} == held


def test_the_vip_leaves_as_soon_as_the_agent_says_that_haproxy_is_dead(world: World) -> None:
    master, backup = two_amphorae(world)
    (master.files / "haproxy.track").write_text("-254\n")
    until(lambda: backup.has(VIP) and not master.has(VIP))
    until(lambda: "member" in world.get())


def test_the_vip_stays_where_it_is_when_the_other_half_comes_back(world: World) -> None:
    master, backup = two_amphorae(world)
    track = master.files / "haproxy.track"
    track.write_text("-254\n")
    until(lambda: backup.has(VIP))
    track.write_text("0\n")
    until(lambda: "(lb) Entering BACKUP STATE" in log_of(master, world).partition("FAULT")[2])
    assert backup.has(VIP)
    assert not master.has(VIP)


def test_a_half_alone_has_the_vip_and_says_nothing_on_the_network(world: World) -> None:
    world.member("m1", 101)
    wanted = tree(listener(), pool(), member("m1", address="10.20.0.101"), topology=PAIRED)
    settings = RenderSettings(vrrp_advert_int=0.1)
    alone = world.amphora(render_bundle(wanted, pair()[0], None, NETWORK, settings, Fence(1, 1, "w")))
    until(lambda: alone.has(VIP))
    assert world.get()["member"] == "m1"
    assert "multicast" not in log_of(alone, world)


def log_of(amphora: AmphoraHost, world: World) -> str:
    """What keepalived said."""
    number = world.lab.processes.index(amphora.keepalived)
    return (world.lab.directory / f"{number}.log").read_text()
