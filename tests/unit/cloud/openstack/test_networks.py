"""What Neutron says of a network and of a port, as we read it."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.network.v2.network import Network
from openstack.network.v2.port import Port

from tavia.cloud.openstack.networking import NeutronNetworking


class Neutron:
    """A connection to a Neutron that answers with these attributes, whatever is asked."""

    def __init__(self, **attributes: Any) -> None:
        self._attributes = attributes

    def asked(self) -> Neutron:
        return self

    def __enter__(self) -> Neutron:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get_network(self, network_id: str) -> Network:
        return Network(id=network_id, name="net", mtu=1500, subnets=[], **self._attributes)

    def get_port(self, port_id: str) -> Port:
        return Port(id=port_id, network_id="net", fixed_ips=[], **self._attributes)


@pytest.mark.parametrize(
    ("said", "is_secured"),
    [({"port_security_enabled": True}, True), ({"port_security_enabled": False}, False), ({}, True)],
    ids=["on", "off", "a Neutron that cannot turn it off"],
)
def test_port_security(said: dict[str, bool], is_secured: bool) -> None:
    networking = NeutronNetworking(Neutron(**said))  # type: ignore[arg-type]
    assert networking.network("net").has_port_security is is_secured
    assert networking.port("port").has_port_security is is_secured
