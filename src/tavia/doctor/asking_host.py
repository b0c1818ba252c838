"""Facts of this host, and of the servers that only the services use: files, interfaces, database, RabbitMQ."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from oslo_config import cfg
from sqlalchemy import select

from tavia.doctor import certificates
from tavia.doctor.facts import DatabaseSeen, File, Interface
from tavia.doctor.findings import Unknown
from tavia.store.clock import now
from tavia.store.database import Database
from tavia.store.opening import current_revision, needed_revision

SERVICE_USER = "octavia"
"""Of deploy/systemd."""
SECONDS = 5


def files(conf: cfg.ConfigOpts) -> dict[str, File]:
    """The configuration files, and those of certificates and keys that they name, by path."""
    found = {str(name): _file(Path(name)) for name in conf.config_file}
    for option, group in certificates.FILES.items():
        name = str(conf[group][option])
        passphrase = conf.certificates.ca_private_key_passphrase if option == "ca_private_key" else None
        found[name] = pem_file(Path(name), passphrase)
    return found


def _file(path: Path) -> File:
    return File(mode=path.stat().st_mode & 0o777, hidden_from=hidden_from(path))


def pem_file(path: Path, passphrase: str | None) -> File:
    """What is in it. Never raises."""
    try:
        mode, content = path.stat().st_mode & 0o777, path.read_bytes()
    except OSError as error:
        return File(problem=error.strerror or str(error))
    try:
        held = x509.load_pem_x509_certificates(content) if b"BEGIN CERTIFICATE" in content else []
        key = _public_half(content, passphrase) if b"PRIVATE KEY" in content else None
    except ValueError as error:
        return File(mode=mode, problem=str(error).splitlines()[0])
    return File(mode=mode, certificates=held, key=key, hidden_from=hidden_from(path))


def _public_half(content: bytes, passphrase: str | None) -> PublicKeyTypes:
    """Raises ValueError in words that an operator understands."""
    encrypted = b"ENCRYPTED" in content
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode() if passphrase and encrypted else None)
    except TypeError as error:
        raise ValueError("its key is encrypted: set [certificates] ca_private_key_passphrase") from error
    except ValueError as error:
        why = "[certificates] ca_private_key_passphrase does not open it" if encrypted else "its key is damaged"
        raise ValueError(why) from error
    return key.public_key()


def hidden_from(path: Path) -> str | None:
    """The user that the services run as, where it exists and cannot read this; only root finds out."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    read = subprocess.run(
        ["test", "-r", str(path)], user=user.pw_uid, group=user.pw_gid, extra_groups=groups, cwd="/", check=False
    )
    return None if read.returncode == 0 else SERVICE_USER


def interfaces() -> list[Interface]:
    """Those of this host, or of the network namespace that we are in."""
    said = subprocess.run(["ip", "-j", "address"], capture_output=True, check=True, timeout=SECONDS)
    return [
        Interface(
            name=link["ifname"],
            up="UP" in link["flags"],
            addresses=[
                ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}")
                for address in link["addr_info"]
                if "local" in address
            ],
        )
        for link in json.loads(said.stdout)
    ]


def database(conf: cfg.ConfigOpts) -> DatabaseSeen:
    """Asked once: the services would wait for it. Raises SeamError, Unknown, and what the driver raises."""
    url = conf.database.connection
    if not url:
        raise Unknown("[database] connection is not set")
    path = url.partition(":///")[2]
    if url.startswith("sqlite") and not Path(path).exists():
        raise Unknown(f"there is no file {path}")  # SQLite would make one
    opened = Database.connect(url, conf.database)
    try:
        with opened.read() as conn:
            revision = current_revision(conn)
            before = time.time()
            theirs = float(conn.execute(select(now())).scalar_one())
            ahead = theirs - (before + time.time()) / 2
    finally:
        opened.dispose()
    return DatabaseSeen(revision=revision, needed=needed_revision(), clock=ahead)


def rabbit(conf: cfg.ConfigOpts) -> dict[str, str | None]:
    """Each server of [DEFAULT] transport_url, and what went wrong there."""
    if "transport_url" not in conf or not conf.transport_url:
        return {}
    import oslo_messaging  # noqa: PLC0415  half a second, for who has a message bus

    parse: Any = oslo_messaging.TransportURL.parse
    url = parse(conf, conf.transport_url)
    return {f"{host.hostname}:{host.port or 5672}": _rabbit_problem(conf, url, host) for host in url.hosts}


def _rabbit_problem(conf: cfg.ConfigOpts, url: Any, host: Any) -> str | None:
    import kombu  # noqa: PLC0415

    options = conf.oslo_messaging_rabbit
    tls = dict(_tls(options)) if options.ssl or "ssl=1" in conf.transport_url else False
    library: Any = kombu
    connection = library.Connection(
        hostname=host.hostname,
        port=host.port or 5672,
        userid=host.username,
        password=host.password,
        virtual_host=url.virtual_host or "/",
        connect_timeout=SECONDS,
        ssl=tls,
    )
    try:
        connection.connect()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    finally:
        connection.release()
    return None


def _tls(options: Any) -> Iterator[tuple[str, Any]]:
    import ssl  # noqa: PLC0415

    for name, value in {
        "ca_certs": options.ssl_ca_file,
        "certfile": options.ssl_cert_file,
        "keyfile": options.ssl_key_file,
    }.items():
        if value:
            yield name, value
    if options.ssl_ca_file:
        yield "cert_reqs", ssl.CERT_REQUIRED
