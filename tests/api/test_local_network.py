"""The Neutron that clients ask where there is none: what of it is always empty."""

from __future__ import annotations

import uuid

import pytest
from tests.api.conftest import Api

KINDS = {
    "floatingips": ("floatingips", "FloatingipNotFound"),
    "security-groups": ("security_groups", "SecurityGroupNotFound"),
    "security-group-rules": ("security_group_rules", "SecurityGroupRuleNotFound"),
    "qos/policies": ("policies", "PolicyNotFound"),
    "routers": ("routers", "RouterNotFound"),
    "extensions": ("extensions", "ExtensionNotFound"),
}


@pytest.mark.parametrize("path", KINDS)
def test_what_such_a_cloud_has_none_of_is_an_empty_list(api: Api, path: str) -> None:
    for query in ("", "name=web", f"id={uuid.uuid4()}", f"port_id={uuid.uuid4()}"):
        assert api.get(f"/network/v2.0/{path}", query_string=query) == {KINDS[path][0]: []}


@pytest.mark.parametrize("path", KINDS)
def test_none_of_it_is_found_by_id_as_neutron_says_it(api: Api, path: str) -> None:
    missing = str(uuid.uuid4())
    answer = api.request("GET", f"/network/v2.0/{path}/{missing}")
    assert answer.status_code == 404
    assert answer.json["NeutronError"]["type"] == KINDS[path][1]
    assert answer.json["NeutronError"]["message"].endswith(f" {missing} could not be found.")
