"""The cloud as a user of the API sees it, by the token of the request."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from driver_stand import Stand
from keystoneauth1.access import AccessInfoV3
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from keystonemiddleware.auth_token._user_plugin import UserAuthPlugin

from tavia.cloud.protocols import Cloud, Networking, NotFound
from tavia.model.seams import SeamError


@pytest.fixture
def access(stand: Stand) -> AccessInfoV3:
    """What the middleware of the API learns of a tenant's token."""
    login = v3.Password(
        stand.service["auth_url"],
        username="demo",
        user_domain_name="Default",
        password=stand.service["password"],
        project_name="demo",
        project_domain_name="Default",
    )
    found = login.get_access(Session(login))
    assert isinstance(found, AccessInfoV3)
    return found


def as_middleware_has_it(access: AccessInfoV3) -> UserAuthPlugin:
    return UserAuthPlugin(access, None)  # type: ignore[no-untyped-call]


@pytest.fixture
def tenant(cloud: Cloud, access: AccessInfoV3) -> Networking:
    return cloud.networking.as_user(as_middleware_has_it(access))


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


def test_a_token_that_is_no_more_is_the_users_failure_and_not_ours(cloud: Cloud, access: AccessInfoV3) -> None:
    expired = AccessInfoV3(dict(access._data), auth_token="no-token")
    with pytest.raises(SeamError) as refused:
        cloud.networking.as_user(as_middleware_has_it(expired)).networks()
    assert (refused.value.code, refused.value.permanent) == ("user-token-refused", True)
    assert cloud.networking.networks()


def test_nobody_is_logged_in_for_a_user(cloud: Cloud, access: AccessInfoV3, stand: Stand) -> None:
    """The token that came with the request is the one that Neutron gets, and one request is all it takes."""
    network_id, _ = stand.tenants
    sent: list[requests.PreparedRequest] = []
    tenant = cloud.networking.as_user(as_middleware_has_it(access))
    with pytest.MonkeyPatch.context() as watched:
        real = requests.Session.send

        def send(session: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            sent.append(request)
            return real(session, request, **kwargs)

        watched.setattr(requests.Session, "send", send)
        tenant.network(network_id)
    assert [(request.method, request.headers["X-Auth-Token"]) for request in sent] == [("GET", access.auth_token)]
