"""The cloud that does nothing is shared by all threads of a worker."""

from __future__ import annotations

from dataclasses import replace

from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import PortSpec, ServerSpec

PORT = PortSpec(name="one", network_id="net", fixed_ips=(), tags=frozenset())
SERVER = ServerSpec(name="one", image_id=None, flavor=None, port_ids=(), files={}, tags=frozenset())


class Meanwhile(frozenset[str]):
    """Tags that let another thread's work happen between two things that are looked at."""

    cloud: NoopCloud

    def __le__(self, other: object) -> bool:
        self.cloud.create_port(PORT)
        self.cloud.boot(SERVER)
        return True


def test_ports_and_servers_are_listed_while_others_are_made() -> None:
    cloud, tags = NoopCloud(), Meanwhile()
    tags.cloud = cloud
    cloud.create_port(PORT)
    cloud.boot(SERVER)
    assert len(cloud.ports(tags)) == 1
    assert len(cloud.servers(tags)) == 2


class Counting(frozenset[str]):
    """Tags that count how many ports or servers they are compared with."""

    compared = 0

    def __le__(self, other: object) -> bool:
        Counting.compared += 1
        return super().__le__(other)  # type: ignore[operator]


def test_what_has_a_tag_is_found_however_much_else_there_is() -> None:
    cloud, all_of_us = NoopCloud(), "deployment"
    ports = [cloud.create_port(replace(PORT, tags=frozenset({all_of_us, f"amphora-{n}"}))) for n in range(100)]
    servers = [cloud.boot(replace(SERVER, tags=frozenset({all_of_us, f"amphora-{n}"}))) for n in range(100)]
    tags = Counting({all_of_us, "amphora-7"})
    cloud.set_allowed_addresses(ports[7].id, frozenset({"198.18.0.9"}))
    (port,), (server,) = cloud.ports(tags), cloud.servers(tags)
    assert (port.id, server.id) == (ports[7].id, servers[7])
    assert port.allowed_addresses == {"198.18.0.9"}
    assert Counting.compared == 2
    cloud.delete_port(port.id)
    cloud.delete(server.id)
    assert (cloud.ports(tags), cloud.servers(tags)) == ([], [])
    assert len(cloud.ports(frozenset({all_of_us}))) == len(cloud.servers(frozenset())) == 99
