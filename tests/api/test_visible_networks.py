"""What a caller may name is what it sees of the cloud, where Keystone says who it is.

The environment is what keystonemiddleware leaves; tests/cluster/identity has the real one.
"""

from __future__ import annotations

from typing import Any

import pytest
from falcon.testing import Result
from tests.api.conftest import SUBNET, Api, ApiFactory

from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Cloud, Network, NotFound, Port, PortSpec, Subnet

HIDDEN = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d44"


class UsersView(NoopCloud):
    """A user who sees one subnet, and nothing else."""

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        if subnet_id != SUBNET:
            raise NotFound("subnet", subnet_id)
        return super().subnet(subnet_id)

    def network(self, network_id: str) -> Network:
        raise NotFound("network", network_id)

    def port(self, port_id: str) -> Port:
        raise NotFound("port", port_id)

    def qos_policy_exists(self, policy_id: str) -> bool:
        return False

    def create_port(self, spec: PortSpec) -> Port:
        raise AssertionError("the port is ours to make")


class Shared(NoopCloud):
    """All is there; ``asked`` are the users whose view was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []

    def as_user(self, auth: object) -> NoopCloud:
        self.asked.append(auth)
        return UsersView()


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def api(make_api: ApiFactory, shared: Shared) -> Api:
    return make_api(Cloud(compute=shared, networking=shared, images=shared))


def ask(api: Api, path: str, **body: Any) -> Result:
    """A POST of a user, as the middleware hands it on."""
    headers = {"X-Project-Id": "tenant", "X-Roles": "member", "X-User-Id": "user", "X-Identity-Status": "Confirmed"}
    return api.request("POST", path, body, headers=headers, extras={"keystone.token_auth": "the user's token"})


@pytest.mark.parametrize(
    ("named", "gist"),
    [
        ({"vip_subnet_id": HIDDEN}, f"Subnet {HIDDEN} not found."),
        ({"vip_network_id": HIDDEN}, f"Network {HIDDEN} not found."),
        ({"vip_port_id": HIDDEN}, f"Port {HIDDEN} not found."),
        ({"vip_subnet_id": SUBNET, "vip_qos_policy_id": HIDDEN}, f"QoS policy {HIDDEN} not found."),
        ({"vip_subnet_id": SUBNET, "additional_vips": [{"subnet_id": HIDDEN}]}, f"Subnet {HIDDEN} not found."),
    ],
)
def test_what_a_user_does_not_see_is_not_found(api: Api, shared: Shared, named: dict[str, Any], gist: str) -> None:
    refused = ask(api, "/loadbalancers", loadbalancer=named)
    assert (refused.status_code, refused.json["faultstring"]) == (400, gist)
    assert shared.asked == ["the user's token"]
    assert shared.ports(frozenset()) == []


def test_what_it_sees_it_gets_on_a_port_that_we_make(api: Api, shared: Shared) -> None:
    assert ask(api, "/loadbalancers", loadbalancer={"vip_subnet_id": SUBNET}).status_code == 201
    assert len(shared.ports(frozenset())) == 1


def test_a_subnet_that_another_project_named_before_stays_hidden(api: Api) -> None:
    pool = api.pool(loadbalancer_id=api.loadbalancer(project_id="tenant")["id"])
    api.member(pool["id"], subnet_id=HIDDEN)
    body = {"address": "10.0.0.2", "protocol_port": 80, "subnet_id": HIDDEN}
    refused = ask(api, f"/pools/{pool['id']}/members", member=body)
    assert (refused.status_code, refused.json["faultstring"]) == (400, f"Subnet {HIDDEN} not found.")


def test_the_operator_may_let_users_name_anything(make_api: ApiFactory, shared: Shared) -> None:
    cloud = Cloud(compute=shared, networking=shared, images=shared)
    api = make_api(cloud, networking={"allow_invisible_resource_usage": "true"})
    assert ask(api, "/loadbalancers", loadbalancer={"vip_subnet_id": HIDDEN}).status_code == 201
    assert shared.asked == []
