"""What a load balancer boots with was resolved when it was accepted: every boot of it reads that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from world import World

from tavia.cloud.protocols import ServerSpec
from tavia.model.statuses import AmphoraStatus
from tavia.store import release

MakeWorld = Callable[..., World]
Booted = tuple[str | None, str | None, str | None]


def booted(spec: ServerSpec) -> Booted:
    return spec.flavor, spec.availability_zone, spec.image_id


def test_every_boot_takes_flavor_zone_and_image_of_its_load_balancer(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create(compute_flavor="small", compute_zone="az-1", image_tag="blessed")
    world.converge(lb)
    world.failover(lb)
    world.converge(lb)
    assert [booted(spec) for spec in world.compute.specs] == [("small", "az-1", "newest-blessed")] * 2
    (amphora,) = world.tree(lb).amphorae
    assert (amphora.compute_flavor, amphora.image_id) == ("small", "newest-blessed")


def test_one_of_before_boots_with_what_is_configured(make_world: MakeWorld) -> None:
    world = make_world()
    world.converge(world.create())
    assert [booted(spec) for spec in world.compute.specs] == [(None, None, None)]


def test_an_amphora_shows_the_flavor_that_it_was_booted_with(make_world: MakeWorld) -> None:
    """Not the one that was in force when its row was made, or is since."""
    world = make_world()
    lb = world.create(compute_flavor="small")
    world.compute.boots_to = world.compute.boots_to.BUILDING
    world.converge(lb, passes=1)
    ours = frozenset({"amphora"})
    again = partial(release.release, loadbalancer_id=lb.id, providers=ours, asked_by="ada", host="ctl-1")
    world.database.write(partial(again, boots_with={"compute_flavor": "large"}))
    assert {a.compute_flavor for a in world.tree(lb).amphorae if a.status is AmphoraStatus.BOOTING} == {"small"}


def test_a_release_resolves_it_anew(make_world: MakeWorld) -> None:
    world = make_world()
    lb = world.create(compute_flavor="no-longer-there")
    ours = frozenset({"amphora"})
    world.database.write(
        partial(
            release.release,
            loadbalancer_id=lb.id,
            providers=ours,
            boots_with={"compute_flavor": "small", "compute_zone": None, "image_tag": "amphora"},
            asked_by="ada",
            host="ctl-1",
        )
    )
    world.converge(lb)
    assert [booted(spec) for spec in world.compute.specs] == [("small", None, "newest-amphora")]
