"""The cloud as a user of the API sees it, by the token of the request."""

from __future__ import annotations

import pytest
from driver_stand import Stand
from keystoneauth1.identity import v3

from tavia.cloud.protocols import Cloud, Networking, NotFound
from tavia.model.seams import SeamError


@pytest.fixture
def tenant(stand: Stand, cloud: Cloud) -> Networking:
    url, demo = stand.service["auth_url"], stand.admin.identity.find_project("demo").id
    password = stand.service["password"]
    login = v3.Password(url, username="demo", user_domain_name="Default", password=password, project_id=demo)
    token = stand.admin.session.get_token(login)
    return cloud.networking.as_user(v3.Token(url, token, project_id=demo))


def test_a_user_sees_what_neutron_shows_to_it(stand: Stand, cloud: Cloud, tenant: Networking) -> None:
    network_id, subnet_id = stand.tenants
    assert tenant.network(network_id) == cloud.networking.network(network_id)
    assert tenant.subnet(subnet_id) == cloud.networking.subnet(subnet_id)


def test_a_user_does_not_see_the_management_network(stand: Stand, cloud: Cloud, tenant: Networking) -> None:
    private = stand.admin.network.create_network(name="tavia-private", project_id=stand.project_id)
    try:
        assert cloud.networking.network(private.id).name == "tavia-private"
        with pytest.raises(NotFound):
            tenant.network(private.id)
        assert private.id not in {network.id for network in tenant.networks()}
    finally:
        stand.admin.network.delete_network(private)


def test_a_token_that_is_no_more_is_the_users_failure_and_not_ours(stand: Stand, cloud: Cloud) -> None:
    expired = cloud.networking.as_user(v3.Token(stand.service["auth_url"], "no-token"))
    with pytest.raises(SeamError) as refused:
        expired.networks()
    assert (refused.value.code, refused.value.permanent) == ("user-token-refused", True)
