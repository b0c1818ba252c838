"""What the tests from end to end share: a server on the tenant's network."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tavia_on_cloud import TaviaOnCloud
from tenant import TenantServer


@pytest.fixture(scope="session")
def server(tavia_of_the_session: TaviaOnCloud) -> Iterator[TenantServer]:
    """Answers on ports 8081 to 8084 with the port's number."""
    with tavia_of_the_session.tenant.server(f"tavia-test-{secrets.token_hex(4)}") as made:
        made.serve(8081, 8082, 8083, 8084)
        yield made
