"""From the tree to what each amphora of it should run, with what the cloud says of the VIP's network."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tavia.amphora.bundle import Bundle, Fence
from tavia.cloud.protocols import Networking
from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Tree
from tavia.render import RenderSettings, VipNetwork, VipSubnet, render_bundle
from tavia.worker.hold_back import held_back
from tavia.worker.plan import Wanted
from tavia.worker.security import rules_hash, security_rules

NOTHING = Wanted(hashes={})


class Rendering:
    """One convergence's: what the cloud says of the VIP's network is asked once."""

    def __init__(self, networking: Networking, settings: RenderSettings, *, peers_only: bool) -> None:
        self._networking = networking
        self._settings = settings
        self._peers_only = peers_only
        self._vip_network: VipNetwork | None = None

    def of(
        self, tree: Tree, carrying: Sequence[Amphora], held: Collection[str], fence: Fence
    ) -> tuple[Wanted, dict[str, Bundle]]:
        """What is wanted, and the bundles of the amphorae that carry the traffic, by their ids.

        ``held`` are the units that are held back. Raises SeamError.
        """
        if tree.loadbalancer.deleted_generation is not None:
            return NOTHING, {}
        wanted = held_back(tree.wanted(), held)
        bundles = {amphora.id: self._bundle(wanted, amphora, carrying, fence) for amphora in carrying}
        rules = security_rules(tree.wanted(), peers_only=self._peers_only)
        hashes = {key: bundle.hash for key, bundle in bundles.items()}
        return Wanted(hashes, wanted.member_subnets(), rules_hash(rules)), bundles

    def _bundle(self, wanted: Tree, amphora: Amphora, carrying: Sequence[Amphora], fence: Fence) -> Bundle:
        others = (*carrying, *(a for a in wanted.amphorae if _will_carry(a)))
        peers = [a for a in others if a.role is not amphora.role]
        network = self._network(wanted.loadbalancer)
        return render_bundle(wanted, amphora, peers[0] if peers else None, network, self._settings, fence)

    def _network(self, loadbalancer: LoadBalancer) -> VipNetwork:
        if self._vip_network is None:
            subnet = self._networking.subnet(loadbalancer.vip_subnet_id or "")
            others = [self._networking.subnet(vip["subnet_id"]) for vip in loadbalancer.additional_vips]
            self._vip_network = VipNetwork(
                cidr=subnet.cidr,
                gateway_ip=subnet.gateway_ip,
                host_routes=subnet.host_routes,
                mtu=self._networking.network(subnet.network_id).mtu,
                additional=tuple(
                    VipSubnet(id=each.id, cidr=each.cidr, gateway_ip=each.gateway_ip, host_routes=each.host_routes)
                    for each in others
                ),
            )
        return self._vip_network


def _will_carry(amphora: Amphora) -> bool:
    return (
        amphora.vrrp_ip is not None
        and amphora.replace_generation is None
        and amphora.status in (AmphoraStatus.BOOTING, AmphoraStatus.ALLOCATED)
    )
