"""The cloud that does nothing is shared by all threads of a worker."""

from __future__ import annotations

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
