"""Rules about the certificates: two authorities, neither of which vouches for the other's. Pure.

``server_ca`` is what controllers trust amphorae by, ``ca_certificate`` with ``ca_private_key`` makes amphorae's
certificates, ``client_ca`` is what amphorae trust controllers by, ``client_cert`` is this controller's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import PurePath

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from tavia.doctor.facts import Facts, File
from tavia.doctor.findings import Said, Unknown, good, warning, wrong

SOON = timedelta(days=30)
OTHERS = 0o077
"""Who is not the owner."""

FILES = {
    "ca_certificate": "certificates",
    "ca_private_key": "certificates",
    "server_ca": "haproxy_amphora",
    "client_cert": "haproxy_amphora",
    "client_ca": "controller_worker",
}
"""Option -> group."""
SECRET = ("ca_private_key", "client_cert")


def path(facts: Facts, option: str) -> str:
    """The file that an option names."""
    return str(facts.conf[FILES[option]][option])


def _init(facts: Facts, option: str) -> str:
    """The command that makes what is missing beside that file, and replaces nothing."""
    return f"tavia certs init {PurePath(path(facts, option)).parent}"


def certificate_files(facts: Facts) -> Iterator[Said]:
    """They are there, hold what they should, and the services can read them."""
    trouble = False
    for option, group in FILES.items():
        file, where = facts.files[path(facts, option)], f"[{group}] {option}, {path(facts, option)}"
        lacks = _lacks(option, file)
        if file.problem:
            trouble = True
            yield wrong(f"{where}: {file.problem}", f"name another file, or make one: {_init(facts, option)}")
        elif lacks:
            trouble = True
            yield wrong(f"{where}, has no {lacks} in it", f"name another file, or make one: {_init(facts, option)}")
        elif file.hidden_from:
            trouble = True
            message = f"{where}: the services run as {file.hidden_from} and cannot read it"
            yield wrong(message, f"chown -R {file.hidden_from}: {PurePath(path(facts, option)).parent}")
    if not trouble:
        yield good(f"all {len(FILES)} files of certificates and keys can be read")


def _lacks(option: str, file: File) -> str:
    if option != "ca_private_key" and not file.certificates:
        return "certificate"
    if option in SECRET and file.key is None:
        return "private key"
    return ""


def key_modes(facts: Facts) -> Iterator[Said]:
    """Private keys are their owner's alone."""
    open_ones = [
        path(facts, option) for option in SECRET if _usable(facts, option).mode & OTHERS and path(facts, option)
    ]
    for name in open_ones:
        yield wrong(
            f"others may read or write the private key {name}: mode {facts.files[name].mode:04o}", f"chmod 0600 {name}"
        )
    if not open_ones:
        yield good("private keys belong to their owner alone")


def server_authority(facts: Facts) -> Iterator[Said]:
    """What signs amphorae's certificates is what controllers trust."""
    signer, key = _usable(facts, "ca_certificate").certificates[0], _usable(facts, "ca_private_key").key
    if key != signer.public_key():
        yield wrong(
            f"[certificates] ca_private_key {path(facts, 'ca_private_key')} is not the key of ca_certificate "
            f"{path(facts, 'ca_certificate')}: no amphora gets a certificate",
            "name the two that belong together; tavia certs init makes server_ca.cert.pem and server_ca.key.pem",
        )
    elif not _is_authority(signer):
        yield wrong(
            f"{path(facts, 'ca_certificate')} may not sign certificates: CA:TRUE is missing",
            _init(facts, "ca_certificate"),
        )
    elif not any(_signed(signer, trusted) for trusted in _usable(facts, "server_ca").certificates):
        yield wrong(
            f"amphora certificates are signed by {_name(signer)}, which [haproxy_amphora] server_ca "
            f"{path(facts, 'server_ca')} does not have: controllers refuse every amphora",
            f"cat {path(facts, 'ca_certificate')} >> {path(facts, 'server_ca')}",
        )
    else:
        yield good(f"{_name(signer)} signs amphora certificates, and controllers trust it")


def controller_certificate(facts: Facts) -> Iterator[Said]:
    """Amphorae obey this controller."""
    shown, trusted = _usable(facts, "client_cert"), _usable(facts, "client_ca").certificates
    certificate = shown.certificates[0]
    renew = f"rm {path(facts, 'client_cert')}; {_init(facts, 'client_cert')}"
    if shown.key != certificate.public_key():
        yield wrong(f"key and certificate in {path(facts, 'client_cert')} do not belong together", renew)
    elif not any(_signed(certificate, authority) for authority in trusted):
        yield wrong(
            f"[haproxy_amphora] client_cert {path(facts, 'client_cert')} is not signed by the authority in "
            f"[controller_worker] client_ca {path(facts, 'client_ca')}: amphorae refuse this controller",
            "name the authority that signed it, on every controller the same; or " + renew,
        )
    elif ExtendedKeyUsageOID.CLIENT_AUTH not in _usages(certificate):
        yield wrong(f"{path(facts, 'client_cert')} is not for clients: clientAuth is missing in its usages", renew)
    else:
        yield good(f"{_name(certificate)} is signed by the authority that amphorae obey")


def two_authorities(facts: Facts) -> Iterator[Said]:
    """Otherwise an amphora that a tenant broke into commands all others."""
    amphorae = [certificate.public_key() for certificate in _usable(facts, "ca_certificate").certificates]
    if any(certificate.public_key() in amphorae for certificate in _usable(facts, "client_ca").certificates):
        yield wrong(
            "[certificates] ca_certificate and [controller_worker] client_ca are one authority: an amphora's "
            "certificate passes for a controller's, so one amphora could command all others",
            f"{_init(facts, 'client_ca')} makes two in an empty directory. "
            "Amphorae that stand have to be replaced: openstack loadbalancer failover",
        )
    else:
        yield good("amphorae and controllers have an authority each")


def certificate_dates(facts: Facts) -> Iterator[Said]:
    """All of them hold now, and for some time."""
    ends = {}
    for option in ("ca_certificate", "server_ca", "client_ca", "client_cert"):
        name = path(facts, option)
        for certificate in _usable(facts, option).certificates:
            ends[name, certificate.serial_number] = (certificate, option)
    trouble = False
    for (name, _), (certificate, option) in ends.items():
        said = _dated(
            certificate, name, facts.now, f"rm {name}; {_init(facts, option)}" if option == "client_cert" else ""
        )
        if said:
            trouble = True
            yield said
    if not trouble:
        first = min(certificate.not_valid_after_utc for certificate, _ in ends.values())
        yield good(f"the first certificate to expire does so on {first:%Y-%m-%d}")


def _dated(certificate: x509.Certificate, name: str, now: datetime, renew: str) -> Said | None:
    advice = renew or (
        "make a new authority in another directory with tavia certs init, have both in server_ca and client_ca on "
        "every controller, then openstack loadbalancer failover"
    )
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin > now:
        return wrong(
            f"{_name(certificate)} in {name} holds only from {begin:%Y-%m-%d %H:%M}Z on", "is the clock right?"
        )
    if end <= now:
        return wrong(f"{_name(certificate)} in {name} expired on {end:%Y-%m-%d}", advice)
    if end <= now + SOON:
        return warning(f"{_name(certificate)} in {name} expires on {end:%Y-%m-%d}", advice)
    return None


def _usable(facts: Facts, option: str) -> File:
    """Raises Unknown for one that certificate_files names."""
    file = facts.files[path(facts, option)]
    if file.problem or _lacks(option, file):
        raise Unknown(f"{path(facts, option)} cannot be used, see certificate-files")
    return file


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == by
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return frozenset()


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
