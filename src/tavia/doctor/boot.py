"""Rules about what an amphora is made of: image, flavor, key pair, hosts, quotas. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tavia.doctor.facts import Facts, Flavor, Image
from tavia.doctor.findings import Said, Unknown, good, known, warning, wrong

FEW = 10
"""Load balancers for which there should still be room."""
OLD_DAYS = 180
GIB = 1024**3
PAIR = 2


def image(facts: Facts) -> Iterator[Said]:
    """What amphorae boot from."""
    worker = facts.conf.controller_worker
    tag, owner = worker.amp_image_tag, worker.amp_image_owner_id
    if not tag:
        advice = "openstack image set --tag amphora IMAGE; then set [controller_worker] amp_image_tag = amphora"
        yield wrong("[controller_worker] amp_image_tag is not set: no amphora can boot", advice)
        return
    tagged = known(facts.images)
    if not tagged:
        advice = f"openstack image list; openstack image set --tag {tag} IMAGE"
        yield wrong(f"no image that we can see has the tag {tag}", advice)
        return
    ours = [found for found in tagged if not owner or found.owner == owner]
    if not ours:
        owners = ", ".join(sorted({found.owner for found in tagged}))
        yield wrong(
            f"[controller_worker] amp_image_owner_id is {owner}, the images with the tag {tag} belong to {owners}",
            f"openstack image set --project {owner} --tag {tag} IMAGE; or set amp_image_owner_id",
        )
        return
    taken = chosen(facts)
    if taken is None:
        yield wrong(
            f"no image with the tag {tag} is active: " + ", ".join(f"{found.id} is {found.status}" for found in ours),
            f"openstack image show {ours[0].id}; upload it again",
        )
        return
    yield from _judged(taken, ours, tag, owner, (facts.now - taken.created).days)


def _judged(taken: Image, ours: list[Image], tag: str, owner: str | None, days: int) -> Iterator[Said]:
    what = f"{taken.name} ({taken.id}), {days} days old, of project {taken.owner}"
    yield good(f"amphorae boot from {what}")
    if len(ours) > 1:
        others = [found.id for found in ours if found is not taken]
        advice = "; ".join(f"openstack image unset --tag {tag} {other}" for other in others)
        yield warning(f"{len(ours)} images have the tag {tag}, the newest active one is taken", advice)
    if not owner:
        yield warning(
            f"[controller_worker] amp_image_owner_id is not set: a newer image with the tag {tag} that any project "
            "shares would be booted, and be given keys",
            f"set [controller_worker] amp_image_owner_id = {taken.owner}",
        )
    if days > OLD_DAYS:
        yield warning(
            f"the image is {days} days old: it lacks the security updates since", "make image, then upload it"
        )


def chosen(facts: Facts) -> Image | None:
    """The image that amphorae boot from, by the rules of the image driver."""
    owner = facts.conf.controller_worker.amp_image_owner_id
    usable = [found for found in known(facts.images) if found.status == "active" and owner in (None, "", found.owner)]
    return max(usable, key=lambda found: found.created, default=None)


def flavor(facts: Facts) -> Iterator[Said]:
    """How large amphorae are."""
    wanted = facts.conf.controller_worker.amp_flavor_id
    if not wanted:
        advice = "openstack flavor list; then set [controller_worker] amp_flavor_id to an id"
        yield wrong("[controller_worker] amp_flavor_id is not set: no amphora can boot", advice)
        return
    found = known(facts.flavor)
    if found is None:
        yield wrong(f"there is no flavor {wanted}, or we may not use it", "openstack flavor list --all")
        return
    shortage = list(_too_small(found, chosen(facts))) if not isinstance(facts.images, Unknown) else []
    for lacking in shortage:
        yield wrong(
            f"flavor {found.name} is too small for the image: {lacking}",
            "openstack flavor create --ram 1024 --disk 4 --vcpus 1 --private amphora; then set amp_flavor_id to its id",
        )
    if not shortage:
        size = f"{found.vcpus} VCPU, {found.ram} MiB RAM, {found.disk} GiB disk"
        unsure = "; whether the image fits is not known" if isinstance(facts.images, Unknown) else ""
        yield good(f"flavor {found.name}: {size}{unsure}")


def _too_small(flavor: Flavor, image: Image | None) -> Iterator[str]:
    if image is None:
        return
    if flavor.ram < image.min_ram:
        yield f"{flavor.ram} MiB RAM, the image wants {image.min_ram}"
    if flavor.disk and flavor.disk < image.min_disk:
        yield f"{flavor.disk} GiB disk, the image wants {image.min_disk}"
    elif flavor.disk and image.virtual_size and flavor.disk * GIB < image.virtual_size:
        yield f"{flavor.disk} GiB disk, the image unpacks to {image.virtual_size / GIB:.1f}"


def key_pair(facts: Facts) -> Iterator[Said]:
    """Only where one is named."""
    name = facts.conf.controller_worker.amp_ssh_key_name
    if not name:
        return
    if known(facts.key_pair):
        yield good(f"there is a key pair {name}")
    else:
        yield wrong(
            f"there is no key pair {name} of the user of [service_auth]: Nova refuses every amphora",
            f"as that user: openstack keypair create --public-key ~/.ssh/id_ed25519.pub {name}",
        )


def hosts(facts: Facts) -> Iterator[Said]:
    """Where the halves of a pair are placed."""
    up, conf = known(facts.hosts), facts.conf
    if not up:
        yield wrong("no compute host is up and enabled", "openstack compute service list")
    elif not conf.nova.enable_anti_affinity or conf.controller_worker.loadbalancer_topology == "SINGLE":
        yield good(f"{len(up)} compute hosts are up")
        if conf.controller_worker.loadbalancer_topology != "SINGLE" and len(up) > 1:
            advice = "set [nova] enable_anti_affinity = true"
            yield warning("both amphorae of a load balancer may be on one host, and go with it", advice)
    elif len(up) < PAIR and conf.nova.anti_affinity_policy == "anti-affinity":
        yield wrong(
            f"one compute host is up ({up[0]}), and [nova] anti_affinity_policy wants the amphorae of a pair on two",
            "set [nova] anti_affinity_policy = soft-anti-affinity, or bring up another host",
        )
    elif len(up) == PAIR and conf.nova.anti_affinity_policy == "anti-affinity":
        yield warning(
            "two compute hosts are up: when one is lost, a pair gets no second amphora before it is back",
            "set [nova] anti_affinity_policy = soft-anti-affinity, or bring up another host",
        )
    else:
        yield good(f"{len(up)} compute hosts are up, a pair's amphorae are kept apart")


def quotas(facts: Facts) -> Iterator[Said]:
    """For how many more load balancers there is room in the project of the service."""
    room, login = known(facts.quotas), known(facts.login)
    needs = _needs(facts)
    short = {what: int(room[what].left // amount) for what, amount in needs.items() if room[what].left // amount < FEW}
    if not short:
        yield good(f"the quotas of project {login.project} leave room for {FEW} load balancers and more")
        return
    fewest = min(short.values())
    advice = (
        f"openstack quota set --force {' '.join(f'--{_OPTION[what]} -1' for what in sorted(short))} {login.project_id}"
    )
    message = f"the quotas of project {login.project} leave room for {fewest} more load balancers: " + ", ".join(
        f"{what} {room[what].used} of {room[what].limit}" for what in sorted(short)
    )
    yield (warning if fewest else wrong)(message, advice)


_OPTION = {
    "instances": "instances",
    "cores": "cores",
    "ram": "ram",
    "server groups": "server-groups",
    "ports": "ports",
    "security groups": "secgroups",
}


def _needs(facts: Facts) -> Mapping[str, int]:
    """Of one load balancer, by quota."""
    size = facts.flavor if isinstance(facts.flavor, Flavor) else Flavor(name="", disk=0, ram=1, vcpus=1)
    pair = facts.conf.controller_worker.loadbalancer_topology != "SINGLE"
    amphorae = PAIR if pair else 1
    needs = {
        "instances": amphorae,
        "cores": size.vcpus * amphorae,
        "ram": size.ram * amphorae,
        "ports": 2 * amphorae + 1,
        "security groups": 1,
    }
    return needs | ({"server groups": 1} if pair and facts.conf.nova.enable_anti_affinity else {})
