"""The helpers that start Keystone and memcached, of which other tests make use."""

from __future__ import annotations

import memcached
import pytest
from keystone_server import PROJECTS, Keystone
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

IN_TENANT = {"member": ["member", "reader"], "lb-admin": ["load-balancer_admin"]}


@pytest.mark.parametrize("user", ["member", "lb-admin"])
def test_a_user_gets_a_token_with_the_role_in_the_project(keystone: Keystone, user: str) -> None:
    access = Password(**keystone.credentials(user)).get_access(Session())
    assert (access.project_id, sorted(access.role_names or [])) == (PROJECTS["tenant"], IN_TENANT[user])


def test_memcached_counts(memcached_server: str) -> None:
    assert int(memcached.statistics(memcached_server)["curr_connections"]) >= 1
