"""Load balancers: creation, VIPs, whole trees, deletion."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from tests.api.conftest import SUBNET, TREE, Api, ApiFactory

from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import AddressRefused, Cloud, FixedIp, Network, NotFound, Port, PortSpec, Subnet
from tavia.model.resources import LoadBalancer, Member
from tavia.model.seams import Seam, SeamError
from tavia.store import reading
from tavia.store.database import OutcomeUnknown

NETWORK = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d01"
SUBNET_V6 = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d06"
SMALL_SUBNET = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d30"
PORT = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d99"
SERVERS_PORT = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d98"
LIMITED_PORT = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d97"
OPEN_PORT = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9da0"
ELSEWHERE = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d55"
POLICY = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d66"
PORTS_POLICY = "0f2b8d1c-9c5b-4f0a-8f41-6a1f4a2f9d67"
NOWHERE = "7f0a2c6e-7a7c-4f8f-9d67-0d4f2b9c1a11"


class OneNetwork(NoopCloud):
    """One network with three subnets, the smallest of which is full; it remembers its ports and refuses as Neutron."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: list[tuple[str | None, bool]] = []
        self.refusal: SeamError | None = None
        self.is_secured = True

    SUBNETS = {SUBNET_V6: "2001:db8::/64", SMALL_SUBNET: "10.0.0.0/30", SUBNET: "10.0.1.0/24"}

    def network(self, network_id: str) -> Network:
        if network_id != NETWORK:
            raise NotFound("network", network_id)
        subnet_ids = tuple(self.SUBNETS)
        return Network(id=NETWORK, name="net", mtu=1500, subnet_ids=subnet_ids, has_port_security=self.is_secured)

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        if subnet_id == ELSEWHERE:
            return Subnet(id=subnet_id, name="subnet", network_id=NOWHERE, cidr="10.0.9.0/24")
        if subnet_id not in self.SUBNETS:
            raise NotFound("subnet", subnet_id)
        return Subnet(id=subnet_id, name="subnet", network_id=NETWORK, cidr=self.SUBNETS[subnet_id])

    def port(self, port_id: str) -> Port:
        if port_id not in (PORT, SERVERS_PORT, LIMITED_PORT, OPEN_PORT):
            raise NotFound("port", port_id)
        return Port(
            id=port_id,
            name="mine",
            network_id=NETWORK,
            mac_address="02:00:00:00:00:01",
            fixed_ips=(FixedIp(subnet_id=SUBNET, ip_address="10.0.1.77"),),
            device_id="a-server" if port_id == SERVERS_PORT else "",
            qos_policy_id=PORTS_POLICY if port_id == LIMITED_PORT else None,
            has_port_security=port_id != OPEN_PORT,
        )

    def create_port(self, spec: PortSpec) -> Port:
        if self.refusal:
            raise self.refusal
        self.owners.append((spec.project_id, spec.is_vip))
        return super().create_port(replace(spec, fixed_ips=[self._fixed_ip(*each) for each in spec.fixed_ips]))

    def _fixed_ip(self, subnet_id: str, address: str | None) -> tuple[str, str]:
        subnet = ipaddress.ip_network(self.SUBNETS[subnet_id])
        if subnet_id == SMALL_SUBNET:
            raise AddressRefused("subnet-full", "full")
        if address and ipaddress.ip_address(address) not in subnet:
            raise AddressRefused("address-outside-subnet", "outside")
        if any(ip.ip_address == address for port in self.all_ports() for ip in port.fixed_ips):
            raise AddressRefused("address-in-use", "in use")
        return subnet_id, address or str(subnet[10])

    def qos_policy_exists(self, policy_id: str) -> bool:
        return policy_id == POLICY

    def all_ports(self) -> list[Port]:
        return self.ports(frozenset())


@pytest.fixture
def networking() -> OneNetwork:
    return OneNetwork()


@pytest.fixture
def picky(make_api: ApiFactory, networking: OneNetwork) -> Api:
    """The API on a cloud that refuses."""
    return make_api(Cloud(compute=networking, networking=networking, images=networking))


def test_a_new_load_balancer_is_pending_and_has_its_vip_at_once(api: Api) -> None:
    created = api.loadbalancer(name="web", description="my first", tags=["a"], vip_address="198.18.0.9")
    assert created["provisioning_status"] == "PENDING_CREATE"
    assert created["operating_status"] == "OFFLINE"
    assert (created["vip_address"], created["vip_subnet_id"]) == ("198.18.0.9", SUBNET)
    assert created["updated_at"] is None
    assert api.get(f"/loadbalancers/{created['id']}")["loadbalancer"] == created


def test_answers_have_every_attribute_that_clients_know(api: Api) -> None:
    assert api.loadbalancer().keys() == {
        *("id", "name", "description", "project_id", "tenant_id", "tags", "created_at", "updated_at", "fault"),
        *("provisioning_status", "operating_status", "admin_state_up", "provider", "flavor_id", "availability_zone"),
        *("vip_address", "vip_port_id", "vip_subnet_id", "vip_network_id", "vip_sg_ids", "vip_qos_policy_id"),
        *("vip_vnic_type", "additional_vips", "listeners", "pools"),
    }


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("flavor_id", NOWHERE),
        ("availability_zone", "az1"),
        ("vip_sg_ids", [NOWHERE]),
    ],
)
def test_what_has_no_effect_yet_is_refused_by_name_and_its_neutral_value_is_taken(
    api: Api, attribute: str, value: object
) -> None:
    refusal = api.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET, attribute: value}})
    assert refusal == (501, f"Provider 'amphora' does not support a requested option: {attribute} has no effect yet.")
    assert api.loadbalancer(**{attribute: [] if isinstance(value, list) else None})


def test_the_vip_port_carries_the_tags_by_which_orphans_are_found(picky: Api, networking: OneNetwork) -> None:
    created = picky.loadbalancer()
    (port,) = networking.all_ports()
    assert (port.id, port.name, port.device_id) == (
        created["vip_port_id"],
        f"octavia-lb-{created['id']}",
        f"lb-{created['id']}",
    )
    deployment = picky.database.deployment_id()
    assert port.tags == {f"tavia-deployment={deployment}", f"tavia-loadbalancer={created['id']}"}


@pytest.mark.parametrize(
    ("vip", "status", "gist"),
    [
        ({}, 400, "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id."),
        ({"vip_subnet_id": NOWHERE}, 400, f"Subnet {NOWHERE} not found."),
        ({"vip_network_id": NOWHERE}, 400, f"Network {NOWHERE} not found."),
        ({"vip_port_id": NOWHERE}, 400, f"Port {NOWHERE} not found."),
        ({"vip_subnet_id": SUBNET, "vip_address": "10.9.9.9"}, 400, "VIP address 10.9.9.9 is not an address of subnet"),
        ({"vip_subnet_id": SMALL_SUBNET}, 409, "has no free address"),
        ({"vip_network_id": NETWORK, "vip_address": "10.9.9.9"}, 400, "has no subnet for the VIP"),
        ({"vip_port_id": PORT, "vip_address": "10.0.1.78"}, 400, "has no such address"),
        ({"vip_port_id": PORT, "vip_network_id": NOWHERE}, 400, "is not on network"),
    ],
)
def test_a_vip_that_cannot_be_is_told_at_once_and_leaves_nothing(
    picky: Api, networking: OneNetwork, vip: dict[str, str], status: int, gist: str
) -> None:
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": vip})
    assert told[0] == status
    assert gist in told[1]
    assert picky.get("/loadbalancers")["loadbalancers"] == []
    assert networking.all_ports() == []


@pytest.mark.parametrize("vip", [{"vip_subnet_id": SUBNET}, {"vip_network_id": NETWORK}, {"vip_port_id": PORT}])
def test_a_network_without_port_security_has_no_vip(picky: Api, networking: OneNetwork, vip: dict[str, str]) -> None:
    networking.is_secured = False
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": vip})
    assert told == (400, "Validation failure: Port security must be enabled on the VIP network.")
    assert networking.all_ports() == []


def test_nor_has_a_port_without(picky: Api) -> None:
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_port_id": OPEN_PORT}})
    assert told == (400, "Validation failure: Port security must be enabled on the VIP port.")


def test_what_neutron_refuses_of_a_request_is_told_as_the_requests_fault(picky: Api, networking: OneNetwork) -> None:
    networking.refusal = SeamError(Seam.BOOT, "neutron-refused", "Neutron refuses (400 Odd): not so")
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
    assert told == (400, "Validation failure: Neutron refuses (400 Odd): not so")


def test_the_vip_port_belongs_to_the_project_and_only_holds_addresses(picky: Api, networking: OneNetwork) -> None:
    picky.loadbalancer(project_id="tenant")
    assert networking.owners == [("tenant", True)]


def test_additional_vips_are_on_the_same_port_and_shown_with_their_addresses(
    picky: Api, networking: OneNetwork
) -> None:
    created = picky.loadbalancer(vip_address="10.0.1.5", additional_vips=[{"subnet_id": SUBNET_V6}])
    assert created["additional_vips"] == [{"subnet_id": SUBNET_V6, "ip_address": "2001:db8::a"}]
    (port,) = networking.all_ports()
    assert [fixed.ip_address for fixed in port.fixed_ips] == ["10.0.1.5", "2001:db8::a"]
    assert picky.get(f"/loadbalancers/{created['id']}")["loadbalancer"]["additional_vips"] == created["additional_vips"]


@pytest.mark.parametrize(
    ("additional", "status", "gist"),
    [
        ([{"subnet_id": SUBNET}], 400, "Only one IP can be bound per subnet"),
        ([{"subnet_id": SUBNET_V6}, {"subnet_id": SUBNET_V6}], 400, "Only one IP can be bound per subnet"),
        ([{"subnet_id": ELSEWHERE}], 400, "must belong to the same network"),
        ([{"subnet_id": NOWHERE}], 400, f"Subnet {NOWHERE} not found."),
        ([{"subnet_id": SUBNET_V6, "ip_address": "10.0.1.9"}], 400, "10.0.1.9 is not an address of subnet"),
        ([{"subnet_id": SMALL_SUBNET}], 409, "full"),
        ([{"ip_address": "10.0.1.9"}], 400, "Mandatory field missing"),
        ([{"subnet_id": SUBNET_V6, "port": 1}], 400, "Unknown attribute"),
    ],
)
def test_additional_vips_that_cannot_be_are_told_at_once_and_leave_nothing(
    picky: Api, networking: OneNetwork, additional: list[dict[str, Any]], status: int, gist: str
) -> None:
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "additional_vips": additional}}
    told = picky.refusal("POST", "/loadbalancers", body)
    assert told[0] == status
    assert gist in told[1]
    assert networking.all_ports() == []


def test_clients_are_allowed_of_the_ip_version_of_any_vip(picky: Api) -> None:
    listener = {"protocol": "HTTP", "protocol_port": 80, "allowed_cidrs": ["192.0.2.0/24", "2001:db8:9::/48"]}
    created = picky.loadbalancer(additional_vips=[{"subnet_id": SUBNET_V6}], listeners=[listener])
    assert created["listeners"][0]["allowed_cidrs"] == listener["allowed_cidrs"]
    picky.converge(created["id"])
    assert picky.listener(created["id"], 81, allowed_cidrs=["2001:db8:9::/48"])["allowed_cidrs"] == ["2001:db8:9::/48"]
    picky.converge(created["id"])
    path = f"/listeners/{created['listeners'][0]['id']}"
    assert picky.put("listener", path, allowed_cidrs=["2001:db8:8::/48"])["allowed_cidrs"] == ["2001:db8:8::/48"]


def test_a_port_that_is_brought_along_must_have_the_additional_vips_too(picky: Api) -> None:
    body = {"loadbalancer": {"vip_port_id": PORT, "additional_vips": [{"subnet_id": SUBNET_V6}]}}
    assert "has no such address" in picky.refusal("POST", "/loadbalancers", body)[1]


def test_a_qos_policy_must_exist_and_can_be_changed_and_taken_away(picky: Api) -> None:
    refusal = (400, f"QoS policy {NOWHERE} not found.")
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "vip_qos_policy_id": NOWHERE}}
    assert picky.refusal("POST", "/loadbalancers", body) == refusal
    created = picky.loadbalancer(vip_qos_policy_id=POLICY)
    path = f"/loadbalancers/{created['id']}"
    assert created["vip_qos_policy_id"] == POLICY
    assert picky.refusal("PUT", path, {"loadbalancer": {"vip_qos_policy_id": NOWHERE}}) == refusal
    assert picky.put("loadbalancer", path, vip_qos_policy_id=None)["vip_qos_policy_id"] is None


def test_a_taken_vip_address_is_409(picky: Api) -> None:
    picky.loadbalancer(vip_address="10.0.1.5")
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "vip_address": "10.0.1.5"}}
    assert picky.refusal("POST", "/loadbalancers", body) == (409, "VIP address already in use: 10.0.1.5")


def test_a_tenant_at_the_quota_of_ports_is_told_so(picky: Api, networking: OneNetwork) -> None:
    said = "Neutron says: Quota exceeded for resources: ['port']"
    networking.refusal = SeamError(Seam.BOOT, "port-quota", said, permanent=True)
    status, fault = picky.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
    assert status == 403
    assert fault == f"Quota has been met for resources: Port. {said}"
    assert not picky.get("/loadbalancers")["loadbalancers"]


def test_a_network_gives_its_first_ipv4_subnet_with_room(picky: Api) -> None:
    created = picky.loadbalancer(vip_subnet_id=None, vip_network_id=NETWORK)
    assert (created["vip_subnet_id"], created["vip_network_id"]) == (SUBNET, NETWORK)


def test_a_wanted_address_chooses_the_subnet_of_a_network(picky: Api) -> None:
    created = picky.loadbalancer(vip_subnet_id=None, vip_network_id=NETWORK, vip_address="2001:DB8:0::5")
    assert (created["vip_subnet_id"], created["vip_address"]) == (SUBNET_V6, "2001:db8::5")


def test_a_port_that_is_brought_along_is_taken_over_once_and_never_ours(picky: Api, networking: OneNetwork) -> None:
    created = picky.loadbalancer(vip_subnet_id=None, vip_port_id=PORT)
    assert (created["vip_address"], created["vip_port_id"]) == ("10.0.1.77", PORT)
    assert picky.row(LoadBalancer, created["id"]).vip_port_ours is False
    assert networking.all_ports() == []
    assert picky.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_port_id": PORT}})[0] == 409


def test_a_port_that_something_else_uses_is_refused(picky: Api) -> None:
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_port_id": SERVERS_PORT}})
    assert told == (400, f"Validation failure: Port {SERVERS_PORT} is already used by device a-server.")


@pytest.mark.parametrize(("wanted", "given"), [({}, PORTS_POLICY), ({"vip_qos_policy_id": POLICY}, POLICY)])
def test_a_port_brings_its_qos_policy_along_unless_the_load_balancer_names_one(
    picky: Api, wanted: dict[str, Any], given: str
) -> None:
    created = picky.loadbalancer(vip_subnet_id=None, vip_port_id=LIMITED_PORT, **wanted)
    assert created["vip_qos_policy_id"] == given


def test_a_port_is_removed_again_when_the_request_is_refused_after_all(
    make_api: ApiFactory, networking: OneNetwork
) -> None:
    cloud = Cloud(compute=networking, networking=networking, images=networking)
    api = make_api(cloud, quotas={"default_load_balancer_quota": "0"})
    told = api.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
    assert told == (403, "Quota has been met for resources: Load Balancer")
    assert networking.all_ports() == []


def test_a_port_stays_where_nobody_knows_whether_the_load_balancer_was_accepted(
    picky: Api, networking: OneNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = picky.database.write

    def write_and_lose_the_answer(work: Any) -> None:
        write(work)
        raise OutcomeUnknown(OSError("Lost connection"))

    with monkeypatch.context() as patched:
        patched.setattr(picky.database, "write", write_and_lose_the_answer)
        told = picky.request("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
    (created,) = picky.get("/loadbalancers")["loadbalancers"]
    assert [port.id for port in networking.all_ports()] == [created["vip_port_id"]]


def test_networks_can_be_denied_and_sources_switched_off(make_api: ApiFactory, networking: OneNetwork) -> None:
    cloud = Cloud(compute=networking, networking=networking, images=networking)
    body = {"loadbalancer": {"vip_subnet_id": SUBNET}}
    for options in ({"denylist_vip_networks": NETWORK}, {"valid_vip_networks": NOWHERE}, {"allow_vip_subnet_id": "no"}):
        told = make_api(cloud, networking=options).refusal("POST", "/loadbalancers", body)
        assert told[0] == 400
        assert "not allowed in this deployment" in told[1]


def test_the_provider_is_checked(make_api: ApiFactory) -> None:
    api = make_api(api_settings={"enabled_provider_drivers": "amphora:ours,octavia:alias,ovn:theirs"})
    assert api.loadbalancer(provider="octavia")["provider"] == "octavia"
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "provider": "nobody"}}
    assert api.refusal("POST", "/loadbalancers", body) == (400, "Provider 'nobody' is not enabled.")
    body["loadbalancer"]["provider"] = "ovn"
    assert api.refusal("POST", "/loadbalancers", body) == (501, "Provider 'ovn' was not found.")


def test_the_topology_is_the_configured_one(make_api: ApiFactory) -> None:
    api = make_api(controller_worker={"loadbalancer_topology": "ACTIVE_STANDBY"})
    assert api.row(LoadBalancer, api.loadbalancer()["id"]).topology == "ACTIVE_STANDBY"


def test_one_post_makes_a_whole_tree_at_one_generation(api: Api) -> None:
    created = api.loadbalancer(**TREE)
    pools = {pool["name"]: pool for pool in created["pools"]}
    assert [m["operating_status"] for m in pools["web"]["members"]] == ["OFFLINE", "OFFLINE"]
    assert pools["web"]["healthmonitor"]["http_method"] == "GET"
    assert [li["default_pool_id"] for li in created["listeners"]] == [pools["web"]["id"], pools["inline"]["id"]]
    assert {li["timeout_client_data"] for li in created["listeners"]} == {50000}
    shown = api.get(f"/loadbalancers/{created['id']}")["loadbalancer"]
    assert sorted(p["id"] for p in shown["pools"]) == sorted(p["id"] for p in created["pools"])
    assert shown["pools"][0].keys() == {"id"}
    assert api.generation(created["id"]) == 1
    assert api.row(Member, pools["web"]["members"][0]["id"]).changed_generation == 1


def _tree(**changes: Any) -> dict[str, Any]:
    return {"vip_subnet_id": SUBNET} | TREE | changes


@pytest.mark.parametrize(
    ("changes", "status", "gist"),
    [
        ({"pools": []}, 400, "The pool web is referenced but has no definition."),
        ({"pools": TREE["pools"] * 2}, 400, "Pool names must be unique"),
        ({"pools": [{"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}]}, 400, "Pools must be named"),
        ({"pools": [{"name": "web"}]}, 400, "Missing details for the pool web: protocol"),
        ({"listeners": [TREE["listeners"][0]] * 2}, 409, "already using protocol_port 80"),
        (
            {"listeners": [{"protocol": "UDP", "protocol_port": 1}]},
            501,
            "option: listeners.0.protocol UDP has no effect yet",
        ),
        ({"listeners": [{"protocol": "HTTP"}]}, 400, "listeners.0.protocol_port. Value: 'None'. Mandatory"),
        ({"listeners": [{"protocol": "HTTP", "protocol_port": 1, "l7policies": [{}]}]}, 501, "listeners.0.l7policies"),
        ({"listeners": [{"protocol": "HTTP", "protocol_port": 1, "x": 1}]}, 400, "loadbalancer.listeners.0: x"),
    ],
)
def test_a_tree_with_a_mistake_anywhere_is_refused_whole(
    api: Api, changes: dict[str, Any], status: int, gist: str
) -> None:
    told = api.refusal("POST", "/loadbalancers", {"loadbalancer": _tree(**changes)})
    assert told[0] == status
    assert gist in told[1]
    assert api.get("/loadbalancers")["loadbalancers"] == []
    assert api.get("/pools")["pools"] == []


def test_a_members_subnet_must_exist(picky: Api) -> None:
    member = {"address": "10.0.0.1", "protocol_port": 80, "subnet_id": NOWHERE}
    pool = dict(TREE["pools"][0]) | {"members": [member]}
    told = picky.refusal("POST", "/loadbalancers", {"loadbalancer": _tree(pools=[pool])})
    assert told == (400, f"Subnet {NOWHERE} not found.")


@pytest.mark.parametrize("resource", ["listener", "pool", "member", "health_monitor"])
def test_the_quotas_count_all_of_a_tree(make_api: ApiFactory, resource: str) -> None:
    api = make_api(quotas={f"default_{resource}_quota": "0"})
    told = api.refusal("POST", "/loadbalancers", {"loadbalancer": _tree()})
    assert told == (403, f"Quota has been met for resources: {resource.replace('_', ' ').title()}")


def test_what_is_marked_deleted_no_longer_counts(make_api: ApiFactory) -> None:
    api = make_api(quotas={"default_load_balancer_quota": "1"})
    created = api.loadbalancer()
    assert api.refusal("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})[0] == 403
    api.delete(f"/loadbalancers/{created['id']}")
    assert api.loadbalancer()


def test_a_put_changes_what_is_given_and_null_resets(api: Api) -> None:
    created = api.loadbalancer(name="a", description="b", tags=["t"])
    path = f"/loadbalancers/{created['id']}"
    changed = api.put("loadbalancer", path, name="c", admin_state_up="false")
    assert (changed["name"], changed["description"], changed["admin_state_up"]) == ("c", "b", False)
    assert changed["updated_at"] is not None
    reset = api.put("loadbalancer", path, name=None, tags=None, description=None)
    assert (reset["name"], reset["description"], reset["tags"]) == ("", "", [])
    assert api.put("loadbalancer", path, admin_state_up=None)["admin_state_up"] is False


@pytest.mark.parametrize("attribute", ["vip_address", "vip_subnet_id", "provider", "project_id", "id", "listeners"])
def test_a_put_refuses_what_cannot_change(api: Api, attribute: str) -> None:
    path = f"/loadbalancers/{api.loadbalancer()['id']}"
    told = api.refusal("PUT", path, {"loadbalancer": {attribute: None}})
    assert told == (400, f"Unknown attribute for argument load_balancer.loadbalancer: {attribute}")


def test_children_forbid_deletion_without_cascade(api: Api) -> None:
    created = api.loadbalancer(**TREE)
    path = f"/loadbalancers/{created['id']}"
    told = api.refusal("DELETE", path)
    assert told == (400, f"Validation failure: Cannot delete Load Balancer {created['id']} - it has children")
    assert api.row(LoadBalancer, created["id"]).deleted_generation is None
    api.delete(f"{path}?cascade=true")
    assert api.get(path)["loadbalancer"]["provisioning_status"] == "PENDING_DELETE"
    assert {p["provisioning_status"] for p in api.get("/pools")["pools"]} == {"PENDING_DELETE"}
    api.finish_delete(created["id"])
    assert api.refusal("GET", path)[0] == 404
    assert api.get("/loadbalancers")["loadbalancers"] == []


def test_what_its_amphorae_boot_with_is_resolved_when_it_is_accepted(api: Api) -> None:
    api.conf.set_override("amp_flavor_id", "small", group="controller_worker")
    api.conf.set_override("amp_image_tag", "amphora", group="controller_worker")
    api.conf.set_override("availability_zone", "az-1", group="nova")
    made = api.loadbalancer()
    api.conf.set_override("amp_flavor_id", "large", group="controller_worker")
    with api.database.read() as conn:
        row = reading.get(conn, LoadBalancer, made["id"])
    assert (row.topology, row.compute_flavor, row.compute_zone, row.image_tag) == ("SINGLE", "small", "az-1", "amphora")
    assert "compute_flavor" not in made


@pytest.mark.parametrize("address", [None, "198.18.33.33", "2001:db8:33:33:33:33:33:33"])
def test_the_cloud_that_does_nothing_has_every_subnet_in_the_network_named_with_it(
    make_api: ApiFactory, address: str | None
) -> None:
    api = make_api()
    wanted = {"vip_network_id": NETWORK, "vip_subnet_id": SUBNET, **({"vip_address": address} if address else {})}
    created = api.loadbalancer(**wanted, additional_vips=[{"subnet_id": ELSEWHERE}])
    assert created | wanted == created
    assert [vip["subnet_id"] for vip in created["additional_vips"]] == [ELSEWHERE]
    assert api.get(f"/loadbalancers/{created['id']}")["loadbalancer"]["vip_network_id"] == NETWORK
