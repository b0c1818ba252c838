"""From the tree to what each amphora of it should run, with what the cloud says of the VIP's network."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tavia.amphora.bundle import Bundle, Fence
from tavia.cloud.protocols import Networking
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.seams import SeamError
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Rows, Tree
from tavia.render import Proxies, RenderSettings, VipNetwork, VipSubnet, render_bundle, render_proxies
from tavia.worker.hold_back import held_back
from tavia.worker.plan import Desired
from tavia.worker.security import rules_hash, security_rules

NOTHING = Desired(hashes={})
REMEMBERED, KNOWN = 60.0, 10000
"""Seconds for which what the cloud says of a network counts, and of how many it is kept."""


class VipNetworks:
    """What the cloud said of VIPs' networks, for all of a worker's threads.

    It is asked again after a minute. Where it does not answer, what it said last is as good for another one: a change
    of members does not wait for Neutron.
    """

    def __init__(self, networking: Networking) -> None:
        self._networking = networking
        self._known: dict[tuple[str, ...], tuple[float, VipNetwork]] = {}

    def of(self, loadbalancer: LoadBalancer) -> VipNetwork:
        """The network of a load balancer's VIPs. Raises SeamError."""
        key = (loadbalancer.vip_subnet_id or "", *(vip["subnet_id"] for vip in loadbalancer.additional_vips))
        asked_at, known = self._known.get(key, (0.0, None))
        if known and time.monotonic() - asked_at < REMEMBERED:
            return known
        try:
            found = self._ask(key)
        except SeamError:
            if known is None:
                raise
            found = known
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[key] = time.monotonic(), found
        return found

    def _ask(self, subnet_ids: Sequence[str]) -> VipNetwork:
        own, *others = (self._networking.subnet(subnet_id) for subnet_id in subnet_ids)
        return VipNetwork(
            cidr=own.cidr,
            gateway_ip=own.gateway_ip,
            host_routes=own.host_routes,
            mtu=self._networking.network(own.network_id).mtu,
            additional=tuple(
                VipSubnet(id=each.id, cidr=each.cidr, gateway_ip=each.gateway_ip, host_routes=each.host_routes)
                for each in others
            ),
        )


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What of a tree's rows with these units held back is the same for all amphorae, at a generation."""

    rows: Rows
    generation: int
    held: frozenset[str]
    served: Rows
    proxies: Proxies


class Rendering:
    """One convergence's: what a tree asks for is rendered once, however often it is planned from."""

    def __init__(self, vip_networks: VipNetworks, settings: RenderSettings, *, peers_only: bool) -> None:
        self._vip_networks = vip_networks
        self._settings = settings
        self._peers_only = peers_only
        self._last: _Rendered | None = None

    def of(
        self, tree: Tree, carrying: Sequence[Amphora], held: Collection[str], fence: Fence
    ) -> tuple[Desired, dict[str, Bundle]]:
        """What is desired, and the bundles of the amphorae that carry the traffic, by their ids.

        ``held`` are the units that are held back. Raises SeamError.
        """
        if tree.loadbalancer.deleted_generation is not None:
            return NOTHING, {}
        rendered = self._rendered(tree, frozenset(held))
        served = replace(tree, rows=rendered.served)
        bundles = {each.id: self._bundle(served, each, carrying, fence, rendered.proxies) for each in carrying}
        rules = security_rules(tree.intended(), peers_only=self._peers_only)
        hashes = {key: bundle.hash for key, bundle in bundles.items()}
        return Desired(hashes, served.member_subnets(), rules_hash(rules)), bundles

    def _rendered(self, tree: Tree, held: frozenset[str]) -> _Rendered:
        last = self._last
        if last and last.rows is tree.rows and (last.generation, last.held) == (tree.generation, held):
            return last
        served = held_back(tree.intended(), held)
        proxies = render_proxies(served, self._settings)
        self._last = _Rendered(tree.rows, tree.generation, held, served.rows, proxies)
        return self._last

    def _bundle(
        self, served: Tree, amphora: Amphora, carrying: Sequence[Amphora], fence: Fence, proxies: Proxies
    ) -> Bundle:
        others = (*carrying, *(a for a in served.amphorae if _will_carry(a)))
        peers = [a for a in others if a.role is not amphora.role]
        network = self._vip_networks.of(served.loadbalancer)
        return render_bundle(served, amphora, peers[0] if peers else None, network, self._settings, fence, proxies)


def _will_carry(amphora: Amphora) -> bool:
    return (
        amphora.vrrp_ip is not None
        and amphora.replace_generation is None
        and amphora.status in (AmphoraStatus.BOOTING, AmphoraStatus.ALLOCATED)
    )
