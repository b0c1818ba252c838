"""The real Octavia, as its installation guide has it but for the drivers: schema, API under gunicorn, the controllers.

What is set beside addresses and passwords, and why:

* all drivers are the noop ones and nobody is asked for a token (``auth_strategy = noauth``), as on Tavia's side;
* the API has as many processes and threads as Tavia's and keeps idle connections for as long; the worker is one
  process, as both have by default;
* ``local_cert_generator`` with an authority of our own, since Octavia makes a key and a certificate for each amphora
  whatever the drivers; Tavia does so too;
* everything else is Octavia's default: TaskFlow without jobboard, its parallel engine, its retries and waits. With
  these drivers none of them waits: the compute driver's answer is ACTIVE from the first.

The noop network driver keeps a SQLite file in ``/tmp``, by a path that cannot be configured. The processes therefore
have a ``/tmp`` of their own in memory, where that file costs no disk and disappears with them.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.octavia_sides import Side
from controllers import ADDRESS

from tavia import pki
from tavia.api.server import KEEP_ALIVE, PROCESSES, THREADS
from tavia.cli.embedded import Settings, render

VENV = Path(".tavia/octavia-venv").absolute()
PRIVATE_TMP = """\
mount -t tmpfs tmpfs "$1"
for folder in /tmp/*/; do mkdir "$1/${folder#/tmp/}" && mount --bind "$folder" "$1/${folder#/tmp/}"; done
mount --rbind "$1" /tmp
"""


@contextmanager
def octavia(directory: Path, side: Side, transport_url: str, ports: tuple[int, int]) -> Iterator[None]:
    """Its four services on the side's database; ``ports`` are the API's and the health manager's."""
    directory.mkdir()
    config = directory / "octavia.conf"
    config.touch(mode=0o600)
    config.write_text(render(_settings(directory, side, transport_url, ports[1])))
    with (directory / "octavia-db-manage.log").open("wb") as log:
        upgrade = (_program("octavia-db-manage"), "--config-file", str(config), "upgrade", "head")
        subprocess.run(upgrade, check=True, stdout=log, stderr=log)
    process = _start(directory, config, ports[0])
    try:
        side.began(f"http://{ADDRESS}:{ports[0]}", [process.pid])
        yield
    finally:
        process.kill()
        process.wait()


def _start(directory: Path, config: Path, port: int) -> subprocess.Popen[bytes]:
    """All services in a process namespace of their own, whose end takes them all."""
    application = f"octavia.api.app:setup_app(argv=['octavia-api', '--config-file', '{config}'])"
    options = {"workers": PROCESSES, "threads": THREADS, "worker-class": "gthread", "keep-alive": KEEP_ALIVE}
    gunicorn = [f"--{name}={value}" for name, value in options.items()]
    commands = {
        "octavia-api": (_program("gunicorn"), "--bind", f"{ADDRESS}:{port}", *gunicorn, application),
        **{
            name: (_program(name), "--config-file", str(config))
            for name in ("octavia-worker", "octavia-health-manager", "octavia-housekeeping")
        },
    }
    lines = [
        f"{shlex.join(command)} > {shlex.quote(str(directory / name))}.log 2>&1 &" for name, command in commands.items()
    ]
    tmp = directory / "tmp"
    tmp.mkdir()
    script = "\n".join(("set -e", PRIVATE_TMP, *lines, "wait -n"))
    alone = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    return subprocess.Popen((*alone, "bash", "-c", script, "octavia", str(tmp)), stdin=subprocess.DEVNULL)


def _settings(directory: Path, side: Side, transport_url: str, heartbeat_port: int) -> Settings:
    certificates = directory / "certificates"
    pki.init(certificates)
    return {
        "DEFAULT": {"transport_url": transport_url, "host": "octavia"},
        "api_settings": {"auth_strategy": "noauth"},
        "oslo_messaging": {"topic": "octavia_prov"},
        "database": {"connection": side.connection},
        "certificates": {
            "ca_certificate": str(certificates / pki.SERVER_CA),
            "ca_private_key": str(certificates / pki.SERVER_CA_KEY),
        },
        "haproxy_amphora": {
            "client_cert": str(certificates / pki.CLIENT),
            "server_ca": str(certificates / pki.SERVER_CA),
        },
        "controller_worker": {
            "client_ca": str(certificates / pki.CLIENT_CA),
            "amphora_driver": "amphora_noop_driver",
            "compute_driver": "compute_noop_driver",
            "network_driver": "network_noop_driver",
            "image_driver": "image_noop_driver",
            "volume_driver": "volume_noop_driver",
            "distributor_driver": "distributor_noop_driver",
            "amp_boot_network_list": "6f0d3b9e-4b1c-4d7e-8d0a-6f7f1f6a4c11",
            "amp_flavor_id": "noop",
        },
        "health_manager": {"bind_ip": ADDRESS, "bind_port": str(heartbeat_port), "heartbeat_key": "of-the-bench"},
    }


def version() -> str:
    """Which Octavia this is."""
    ask = (_program("python"), "-c", "from importlib.metadata import version; print(version('octavia'))")
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def _program(name: str) -> str:
    path = VENV / "bin" / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: make bench-octavia installs it")
    return str(path)
