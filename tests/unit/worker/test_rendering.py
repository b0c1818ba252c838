"""What a worker remembers of VIPs' networks, and what it renders."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from trees import PAIRED, listener, member, pair, pool, tree

from tavia.amphora.bundle import Fence
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Subnet
from tavia.model.resources import LoadBalancer
from tavia.model.seams import Seam, SeamError
from tavia.model.tree import Tree
from tavia.render import Proxies, RenderSettings, render_proxies
from tavia.store.clock import utcnow
from tavia.worker import rendering
from tavia.worker.rendering import Rendering, VipNetworks


class Neutron(NoopCloud):
    """Counts; ``is_down`` as it says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_down = False

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        self.asked += 1
        if self.is_down:
            raise SeamError(Seam.BOOT, "neutron-down", "503")
        return super().subnet(subnet_id)


def loadbalancer(subnet_id: str, *additional: str) -> LoadBalancer:
    vips = [{"subnet_id": each, "ip_address": "198.18.0.9"} for each in additional]
    return LoadBalancer(id="lb", project_id="p", created_at=utcnow(), vip_subnet_id=subnet_id, additional_vips=vips)


def test_the_cloud_is_asked_once_a_minute_for_a_network_not_once_a_change() -> None:
    neutron = Neutron()
    networks = VipNetworks(neutron)
    assert networks.of(loadbalancer("a")) is networks.of(loadbalancer("a"))
    assert neutron.asked == 1
    assert [each.id for each in networks.of(loadbalancer("a", "b")).additional] == ["b"]


def test_what_it_said_last_counts_while_it_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "REMEMBERED", 0.0)
    neutron = Neutron()
    networks = VipNetworks(neutron)
    known = networks.of(loadbalancer("a"))
    neutron.is_down = True
    assert networks.of(loadbalancer("a")) == known
    assert neutron.asked == 2
    with pytest.raises(SeamError, match="neutron-down"):
        networks.of(loadbalancer("never seen"))


def test_one_that_does_not_answer_is_waited_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    neutron = Neutron()
    networks = VipNetworks(neutron)
    known = networks.of(loadbalancer("a"))
    neutron.is_down = True
    clock = time.monotonic() + rendering.REMEMBERED
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    assert [networks.of(loadbalancer("a")) for _ in range(3)] == [known] * 3
    assert neutron.asked == 2


def test_what_a_tree_asks_for_is_rendered_once_for_all_rounds_and_amphorae(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def counted(tree: Tree, settings: RenderSettings) -> Proxies:
        rendered.append(tree.loadbalancer.id)
        return render_proxies(tree, settings)

    monkeypatch.setattr(rendering, "render_proxies", counted)
    one = Rendering(VipNetworks(NoopCloud()), RenderSettings(), peers_only=True)
    situation = replace(tree(listener(), pool(), member(), topology=PAIRED, vip_subnet_id="a"), amphorae=pair())
    for fence in (Fence(1, 1, "w"), Fence(1, 2, "w")):
        _, bundles = one.of(replace(situation, amphorae=pair()), pair(), (), fence)
        assert len(bundles) == 2
    assert rendered == ["lb"]
    one.of(situation, pair(), {"app"}, Fence(1, 3, "w"))
    assert rendered == ["lb", "lb"]
