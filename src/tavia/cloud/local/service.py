"""The daemon ``tavia-local-cloud``: the Nova and Neutron of this machine, started first by ``tavia up``.

It owns networks, ports and servers of one state directory and answers :mod:`tavia.cloud.local.client` on a unix
socket. It can be killed at any time: servers run on, and a daemon that starts again finds them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tavia.cloud.local import cgroups, fabric, wire
from tavia.cloud.local.instance import Instance
from tavia.cloud.local.networks import Networks
from tavia.cloud.local.servers import Servers
from tavia.cloud.local.zygote import Zygote
from tavia.model.seams import Seam, SeamError

LOG = logging.getLogger(__name__)

Call = Callable[[Mapping[str, Any]], Any]


def calls(networks: Networks, servers: Servers) -> dict[str, Call]:
    """What clients may call, by name; each takes the arguments in their JSON form."""
    return {
        "boot": lambda a: servers.boot(wire.server_spec(a["spec"])),
        "server": lambda a: servers.server(a["server_id"]),
        "servers": lambda a: servers.servers(frozenset(a["tags"])),
        "power_off": lambda a: servers.power_off(a["server_id"]),
        "power_on": lambda a: servers.power_on(a["server_id"]),
        "delete": lambda a: servers.delete(a["server_id"]),
        "attach_port": lambda a: servers.attach_port(a["server_id"], a["port_id"]),
        "detach_port": lambda a: servers.detach_port(a["server_id"], a["port_id"]),
        "networks": lambda a: networks.networks(),
        "network": lambda a: networks.network(a["network_id"]),
        "create_network": lambda a: networks.create_network(**a),
        "delete_network": lambda a: networks.delete_network(a["network_id"]),
        "subnets": lambda a: networks.subnets(),
        "subnet": lambda a: networks.subnet(a["subnet_id"]),
        "create_subnet": lambda a: networks.create_subnet(**a),
        "ports": lambda a: networks.ports(frozenset(a["tags"])),
        "port": lambda a: networks.port(a["port_id"]),
        "create_port": lambda a: networks.create_port(wire.port_spec(a["spec"])),
        "set_allowed_addresses": lambda a: networks.set_allowed_addresses(a["port_id"], frozenset(a["addresses"])),
        "delete_port": lambda a: networks.delete_port(a["port_id"]),
        "attach_host": lambda a: networks.attach_host(a["name"], a["network_id"], a["address"]),
        "detach_host": lambda a: networks.detach_host(a["name"]),
    }


def answer(known: Mapping[str, Call], line: bytes) -> dict[str, Any]:
    """The answer to one request; whatever fails is told to the caller."""
    try:
        request = json.loads(line)
        return {"result": wire.encode(known[request["call"]](request["arguments"]))}
    except SeamError as error:
        return {"error": wire.encode_error(error)}
    except Exception as error:
        LOG.exception("the request %.200r failed", line)
        return {"error": wire.encode_error(SeamError(Seam.BOOT, "local-cloud-failed", repr(error)))}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, known: Mapping[str, Call]) -> None:
        path.unlink(missing_ok=True)
        self.known = known
        mask = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(mask)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(answer(self.server.known, line)).encode() + b"\n")


def serve(instance: Instance, limits: cgroups.Limits, agent: str) -> None:
    """Run until SIGTERM or SIGINT. Raises SeamError when this machine cannot be a cloud."""
    require_root()
    fabric.require_tools()
    instance.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (instance.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another tavia-local-cloud serves {instance.state_dir} already"
            raise SeamError(Seam.BOOT, "local-cloud-running", message, permanent=True) from None
        fabric.enter(instance.fabric)
        networks = Networks(instance)
        networks.restore()
        servers = Servers(instance, networks, Zygote(instance, agent), limits)
        servers.restore()
        with _Server(instance.socket, calls(networks, servers)) as server:
            for number in (signal.SIGTERM, signal.SIGINT):
                # shutdown() waits for serve_forever() to return, which runs in this very thread.
                signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
            LOG.info("serving %s in the network namespace %s", instance.socket, instance.fabric)
            server.serve_forever()


def require_root() -> None:
    """Raises SeamError unless we may make namespaces."""
    if os.geteuid() != 0:
        message = "the local cloud makes network namespaces and bridges: run it as root"
        raise SeamError(Seam.BOOT, "not-root", message, permanent=True)


def main() -> int:
    """The command ``tavia-local-cloud``."""
    parser = argparse.ArgumentParser(prog="tavia-local-cloud", description="servers and networks on this machine")
    parser.add_argument("--state-dir", type=Path, required=True, help="where all of this instance's state lives")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB", help="memory of one server (default: 512)")
    parser.add_argument("--processes", type=int, default=256, help="processes and threads of one server (default: 256)")
    parser.add_argument(
        "--agent",
        default="tavia.agent.service:run",
        metavar="MODULE:FUNCTION",
        help="what a server runs, called with the path of its configuration (default: %(default)s)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    limits = cgroups.Limits(memory_bytes=arguments.memory << 20, processes=arguments.processes)
    try:
        serve(Instance.of(arguments.state_dir), limits, arguments.agent)
    except SeamError as error:
        sys.stderr.write(f"tavia-local-cloud: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
