"""A pair's halves: one that cannot boot, be fenced or be placed does not keep the other from serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select
from world import World

from tavia.cloud.protocols import NotFound, ServerSpec, ServerStatus
from tavia.model.resources import Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus, Role, Topology
from tavia.store import intents, schema

MakeWorld = Callable[..., World]
ACTIVE = ProvisioningStatus.ACTIVE
QUOTA = SeamError(Seam.BOOT, "quota", "no more instances", permanent=True)


def test_a_half_that_cannot_boot_does_not_keep_the_other_from_serving(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    world.refuse_boots(lambda number: number >= 1, QUOTA)
    lb = world.create()
    world.converge(lb, passes=1)
    tree = world.tree(lb)
    assert len(world.bundles) == 1
    assert {row.provisioning_status for row in (*tree.of(Listener), *tree.of(Pool), *tree.of(Member))} == {ACTIVE}
    assert tree.loadbalancer.provisioning_status is ACTIVE, "ERROR only where no amphora can be made to serve"
    assert world.fault(lb)["code"] == "quota"


def test_however_often_a_pair_is_refused_it_has_two_rows_and_their_ports_with_which_it_boots_in_the_end(
    make_world: MakeWorld,
) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    world.refuse_boots(lambda number: number < 20, QUOTA)
    lb = world.create()
    for _ in range(10):
        world.look_again(lb)
        world.converge(lb, passes=1)
        assert world.fault(lb)["code"] == "quota"
    made, ports = rows(world), set(world.networking.found)
    assert len(made) == 2
    assert len(ports) == 5, "the VIP's, and two of each amphora"
    world.look_again(lb)
    world.converge(lb)
    assert world.tree(lb).loadbalancer.fault is None
    assert (rows(world), set(world.networking.found)) == (made, ports)
    assert len(world.compute.found) == 2


def test_ports_that_are_gone_when_the_server_is_asked_for_are_made_again(make_world: MakeWorld) -> None:
    world = make_world()
    gone = SeamError(Seam.BOOT, "port-gone", "Port id 1 could not be found")
    for refusal in (gone, NotFound("port", "1")):
        world.refuse_boots(lambda number: number == 0, QUOTA)
        lb = world.create()
        world.converge(lb, passes=1)
        (amphora,) = world.tree(lb).amphorae
        world.networking.lose(amphora.vrrp_port_id or "")
        world.refuse_boots(lambda number: number == 0, refusal)
        for _ in range(2):
            world.look_again(lb)
            world.converge(lb, passes=1)
        (standing,) = world.tree(lb).amphorae
        assert (standing.id, standing.mgmt_port_id) == (amphora.id, amphora.mgmt_port_id)
        assert world.networking.port(standing.vrrp_port_id or "")
        assert world.tree(lb).loadbalancer.fault is None


def test_a_server_whose_agent_cannot_be_waited_for_now_is_not_given_up(make_world: MakeWorld) -> None:
    world = make_world()
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    (amphora,) = world.tree(lb).amphorae
    server = world.compute.server
    refused = SeamError(Seam.CONTROL, "cloud-credentials-refused", "no", permanent=True)

    def unknown(_server_id: str) -> None:
        raise refused

    world.compute.server = unknown  # type: ignore[method-assign,assignment]
    world.look_again(lb)
    world.converge(lb, passes=1)
    assert world.fault(lb)["code"] == "cloud-credentials-refused"
    world.compute.server = server  # type: ignore[method-assign]
    world.compute.found = {i: replace(s, status=ServerStatus.ACTIVE) for i, s in world.compute.found.items()}
    world.look_again(lb)
    world.converge(lb)
    assert [a.id for a in world.tree(lb).amphorae] == [amphora.id]
    assert world.tree(lb).loadbalancer.provisioning_status is ACTIVE


def rows(world: World) -> set[str]:
    """Ids of all amphorae that have a row, deleted ones too."""
    with world.database.read() as conn:
        return set(conn.execute(select(schema.amphora.c.id)).scalars())


def test_a_half_that_cannot_be_fenced_does_not_keep_the_other_from_being_replaced(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old = {a.role: a for a in world.tree(lb).amphorae}
    world.compute.on_silent_hosts = {old[Role.MASTER].compute_id or ""}
    world.cut_off = {old[Role.MASTER].id}
    replace_one(world, lb, old[Role.MASTER].id)
    world.converge(lb, passes=1)
    world.compute.lose(old[Role.BACKUP].compute_id or "")
    replace_one(world, lb, old[Role.BACKUP].id)
    world.converge(lb)
    world.look_again(lb)  # the VIP is taken once somebody is ready to get it
    world.converge(lb)
    tree = world.tree(lb)
    assert world.fault(lb)["code"] == "server-not-off"
    assert old[Role.BACKUP].id not in {a.id for a in tree.amphorae}
    (backup,) = (a for a in tree.amphorae if a.role is Role.BACKUP)
    assert world.bundles[backup.id].generation == tree.generation
    assert {listener.provisioning_status for listener in tree.of(Listener)} == {ACTIVE}
    assert old[Role.MASTER].id in {a.id for a in tree.amphorae}, "nobody proved it dead"
    assert not world.networking.port(old[Role.MASTER].vrrp_port_id or "").allowed_addresses, "its network may obey"
    world.compute.on_silent_hosts.clear()
    world.look_again(lb)
    world.converge(lb)
    assert len(world.tree(lb).amphorae) == 2
    assert world.tree(lb).loadbalancer.fault is None


def test_a_pair_is_replaced_half_by_half_where_no_host_is_left_for_a_third_server(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    lb = world.create()
    world.converge(lb)
    old = {a.id for a in world.tree(lb).amphorae}
    boot, serving = world.compute.boot, []

    def boot_on_two_hosts(spec: ServerSpec) -> str:
        if len(world.compute.found) == 2:
            raise SeamError(Seam.BOOT, "no-valid-host", "No valid host was found", permanent=True)
        serving.append({a.id for a in world.tree(lb).amphorae if a.id in world.bundles and not a.fenced})
        return boot(spec)

    world.compute.boot = boot_on_two_hosts  # type: ignore[method-assign]
    world.failover(lb)
    for _ in range(4):
        world.look_again(lb)
        world.converge(lb)
    tree = world.tree(lb)
    assert not {a.id for a in tree.amphorae} & old
    assert len(tree.amphorae) == 2
    assert all(serving), "one half serves while the other boots"
    assert (tree.loadbalancer.provisioning_status, tree.loadbalancer.fault) == (ACTIVE, None)


def replace_one(world: World, lb: LoadBalancer, amphora_id: str) -> None:
    world.change(lb, lambda conn, g: intents.replace_amphorae(conn, lb.id, g, [amphora_id]))


def test_a_half_that_cannot_boot_is_no_error_while_the_other_boots(make_world: MakeWorld) -> None:
    world = make_world(Topology.ACTIVE_STANDBY)
    world.refuse_boots(lambda number: number == 1, QUOTA)
    world.compute.boots_to = ServerStatus.BUILDING
    lb = world.create()
    world.converge(lb, passes=1)
    assert world.tree(lb).loadbalancer.provisioning_status is ProvisioningStatus.PENDING_CREATE
    assert world.fault(lb)["code"] == "quota"
