"""The directory of the embedded deployment's keys and certificates, named as Octavia's guides name them."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tavia.pki.authority import Authority, private_pem

SERVER_CA = "server_ca.cert.pem"
SERVER_CA_KEY = "server_ca.key.pem"
CLIENT_CA = "client_ca.cert.pem"
CLIENT_CA_KEY = "client_ca.key.pem"
CLIENT = "client.cert-and-key.pem"

_AUTHORITY_VALIDITY = timedelta(days=3650)
_CLIENT_VALIDITY = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=90)


def init(directory: Path) -> None:
    """Make what is missing: both authorities and a controller's certificate. What is there and valid stays.

    The directory is 0700, every file 0600. A controller's certificate close to expiry is renewed; an authority is
    never replaced, because amphorae trust it. Raises SeamError (control) as :meth:`Authority.load` does.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    _authority(directory, SERVER_CA, SERVER_CA_KEY, "Tavia server CA", ExtendedKeyUsageOID.SERVER_AUTH)
    clients = _authority(directory, CLIENT_CA, CLIENT_CA_KEY, "Tavia client CA", ExtendedKeyUsageOID.CLIENT_AUTH)
    if not _good_for_long(directory / CLIENT, clients):
        _write(directory / CLIENT, clients.issue_controller("tavia-controller", _CLIENT_VALIDITY).pem)


def _authority(directory: Path, cert: str, key: str, name: str, usage: ObjectIdentifier) -> Authority:
    # The certificate is written last: a key without one was never used.
    if not (directory / cert).exists():
        made = Authority.create(name, usage, _AUTHORITY_VALIDITY)
        _write(directory / key, private_pem(made.key))
        _write(directory / cert, made.certificate.public_bytes(serialization.Encoding.PEM))
    return Authority.load(directory / cert, directory / key, None)


def _good_for_long(path: Path, issuer: Authority) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(issuer.certificate)
    except (FileNotFoundError, ValueError, InvalidSignature):
        return False
    return certificate.not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # 0600
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
    Path(temporary).replace(path)
