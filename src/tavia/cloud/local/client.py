"""The local cloud for everyone but its daemon: Compute, Networking and Images over the daemon's unix socket.

Worker, API, health manager and CLI use it, each from its own process. Light: nothing of the daemon is imported.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tavia.cloud.local import wire
from tavia.cloud.protocols import (
    Network,
    NotFound,
    Port,
    PortSpec,
    SecurityGroup,
    SecurityRule,
    Server,
    ServerSpec,
    Subnet,
)
from tavia.deadline import left, within
from tavia.model.seams import Seam, SeamError

_TIMEOUT = 30.0
"""Seconds for one call as a whole: the longest, a power off, waits this long at most."""
_MOST_ANSWER = 64 << 20
"""Bytes of one answer: far more than a list of all that one machine holds."""
_PART = 1 << 16


class LocalClient:
    """Implements Compute, Networking and Images of :mod:`tavia.cloud.protocols`; safe for threads and forks.

    Every call may raise SeamError (boot, local-cloud-down) when the daemon does not answer.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    def _call(self, call: str, /, **arguments: Any) -> Any:
        request = json.dumps({"call": call, "arguments": wire.encode(arguments)}).encode() + b"\n"
        try:
            with within(_TIMEOUT), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(left())
                connection.connect(str(self._path))
                connection.settimeout(left())
                connection.sendall(request)
                line = _line(connection)
        except TimeoutError as error:
            raise self._down(f"{call} was not answered in time") from error
        except OSError as error:
            raise self._down(str(error)) from error
        if len(line) > _MOST_ANSWER:
            raise self._down(f"it answers {call} with more than {_MOST_ANSWER} bytes")
        if not line.endswith(b"\n"):
            raise self._down("it hung up before it answered")
        answer = json.loads(line)
        if "error" in answer:
            raise wire.decode_error(answer["error"])
        return answer["result"]

    def _down(self, why: str) -> SeamError:
        message = f"the local cloud does not answer on {self._path} ({why}); start it with tavia up"
        return SeamError(Seam.BOOT, "local-cloud-down", message)

    # -- Compute ------------------------------------------------------------------------------------------------

    def boot(self, spec: ServerSpec) -> str:
        """See Compute. Raises NotFound (a port), SeamError port-in-use, haproxy-missing."""
        server_id: str = self._call("boot", spec=spec)
        return server_id

    def server(self, server_id: str) -> Server | None:
        """See Compute."""
        data = self._call("server", server_id=server_id)
        return data and wire.server(data)

    def servers(self, tags: frozenset[str] = frozenset()) -> list[Server]:
        """See Compute."""
        return [wire.server(data) for data in self._call("servers", tags=tags)]

    def power_off(self, server_id: str) -> None:
        """See Compute. Its interfaces are gone too."""
        self._call("power_off", server_id=server_id)

    def power_on(self, server_id: str) -> None:
        """See Compute. Nothing when it runs. Raises NotFound."""
        self._call("power_on", server_id=server_id)

    def delete(self, server_id: str) -> None:
        """See Compute."""
        self._call("delete", server_id=server_id)

    def attach_port(self, server_id: str, port_id: str) -> None:
        """See Compute."""
        self._call("attach_port", server_id=server_id, port_id=port_id)

    def detach_port(self, server_id: str, port_id: str) -> None:
        """See Compute."""
        self._call("detach_port", server_id=server_id, port_id=port_id)

    def ensure_server_group(self, name: str, policy: str) -> str:
        """This machine is the only host: the group is nothing but its name."""
        del policy
        return name

    def server_groups(self) -> list[str]:
        """There are none here."""
        return []

    def delete_server_group(self, name: str) -> None:
        """Nothing is there to be removed."""

    # -- Networking ---------------------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """See Networking."""
        return [wire.network(data) for data in self._call("networks")]

    def network(self, network_id: str) -> Network:
        """See Networking."""
        return wire.network(self._call("network", network_id=network_id))

    def create_network(self, *, name: str, cidr: str, subnet_name: str = "", gateway_ip: str | None = None) -> Network:
        """A network with one subnet. ``gateway_ip``: None is the range's first address, "" none.

        Raises SeamError cidr-invalid, cidr-overlaps.
        """
        arguments = {"name": name, "cidr": cidr, "subnet_name": subnet_name, "gateway_ip": gateway_ip}
        return wire.network(self._call("create_network", **arguments))

    def delete_network(self, network_id: str) -> None:
        """Remove it with its subnets; nothing when it is gone already. Raises SeamError network-in-use."""
        self._call("delete_network", network_id=network_id)

    def subnets(self) -> list[Subnet]:
        """All subnets."""
        return [wire.subnet(data) for data in self._call("subnets")]

    def subnet(self, subnet_id: str, network_id: str | None = None) -> Subnet:
        """See Networking."""
        return wire.subnet(self._call("subnet", subnet_id=subnet_id))

    def create_subnet(self, network_id: str, *, cidr: str, name: str, gateway_ip: str | None = None) -> Subnet:
        """One more range for a network; as :meth:`create_network`."""
        arguments = {"network_id": network_id, "cidr": cidr, "name": name, "gateway_ip": gateway_ip}
        return wire.subnet(self._call("create_subnet", **arguments))

    def ports(self, tags: frozenset[str] = frozenset()) -> list[Port]:
        """See Networking."""
        return [wire.port(data) for data in self._call("ports", tags=tags)]

    def port(self, port_id: str) -> Port:
        """See Networking."""
        return wire.port(self._call("port", port_id=port_id))

    def create_port(self, spec: PortSpec) -> Port:
        """See Networking. There are no security groups and no projects here."""
        return wire.port(self._call("create_port", spec=spec))

    def set_allowed_addresses(self, port_id: str, addresses: frozenset[str]) -> None:
        """See Networking."""
        self._call("set_allowed_addresses", port_id=port_id, addresses=addresses)

    def delete_port(self, port_id: str) -> None:
        """See Networking."""
        self._call("delete_port", port_id=port_id)

    def ensure_security_group(self, name: str, tags: frozenset[str], rules: frozenset[SecurityRule]) -> str:
        """Nothing is filtered by port here, HAProxy alone sees to ``allowed_cidrs``: the group is only its name."""
        del tags, rules
        return name

    def security_groups(self, tags: frozenset[str]) -> list[SecurityGroup]:
        """There are none here."""
        del tags
        return []

    def delete_security_group(self, name: str, tags: frozenset[str], port_id: str | None = None) -> None:
        """Nothing is there to be removed."""

    def add_security_group(self, port_id: str, group_id: str) -> None:
        """Nothing is filtered by port here."""

    def qos_policy_exists(self, policy_id: str) -> bool:
        """There are none here."""
        del policy_id
        return False

    def set_qos_policy(self, port_id: str, policy_id: str | None) -> None:
        """There are none here: only None can be set. Raises NotFound."""
        del port_id
        if policy_id is not None:
            raise NotFound("QoS policy", policy_id)

    def as_user(self, auth: object) -> LocalClient:
        """Everybody sees all: this cloud knows no projects."""
        del auth
        return self

    def attach_host(self, name: str, network_id: str, address: str | None = None) -> str:
        """A machine of one's own in a network: a network namespace with eth0, an address and a default route.

        Returns the namespace's name, for ``ip netns exec``. What is there already stays; SeamError host-exists when
        it is there with another network or address.
        """
        namespace: str = self._call("attach_host", name=name, network_id=network_id, address=address)
        return namespace

    def detach_host(self, name: str) -> None:
        """Kill what runs on it and remove it; nothing when it is gone already."""
        self._call("detach_host", name=name)

    # -- Images -------------------------------------------------------------------------------------------------

    def image_id(self, tag: str | None, owner_id: str | None) -> str | None:
        """None, whatever is asked for: a sandbox boots from this machine's own file system."""
        del tag, owner_id
        return None


def _line(connection: socket.socket) -> bytes:
    """The answer, up to its newline, the end of the connection, or when it is too long."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= _MOST_ANSWER:
        connection.settimeout(left())
        part = connection.recv(_PART)
        if not part:
            break
        line += part
    return bytes(line)
