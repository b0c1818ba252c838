"""A certificate authority and what it issues. All keys made here are ECDSA P-256; a loaded authority may have RSA."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tavia.model.seams import Seam, SeamError

AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_CLOCKS_DIFFER = timedelta(minutes=5)
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """``pem`` holds the certificate, then its unencrypted private key; ``expires`` is naive UTC."""

    pem: bytes
    expires: datetime

    def __repr__(self) -> str:
        """Without the key: this may end up in a log."""
        return f"IssuedCertificate(expires={self.expires})"


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: AuthorityKey

    @classmethod
    def create(cls, name: str, usage: ObjectIdentifier, validity: timedelta) -> Authority:
        """A new self-signed authority whose certificates serve only ``usage`` (an extended key usage)."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key.public_key(), validity, usage, "key_cert_sign", "crl_sign")
        builder = builder.issuer_name(_named(name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert: Path, key: Path, passphrase: str | None) -> Authority:
        """Read one from PEM files.

        Raises SeamError (control): ca-unreadable, ca-passphrase-wrong, ca-key-mismatch, ca-not-an-authority,
        ca-expired.
        """
        certificate = _read_certificate(cert)
        private = _read_key(key, passphrase)
        if private.public_key() != certificate.public_key():
            raise _refused(
                "ca-key-mismatch", f"{key} is not the private key of {cert}: name the two that belong together"
            )
        if not _is_authority(certificate):
            raise _refused(
                "ca-not-an-authority", f"{cert} may not sign certificates (CA:TRUE is missing): name another"
            )
        _remaining(certificate)
        return cls(certificate, private)

    def issue_amphora(self, amphora_id: str, validity: timedelta) -> IssuedCertificate:
        """For an amphora's agent: to serve as the DNS name ``amphora_id``, nothing else.

        No longer than the authority itself. Raises SeamError (control, ca-expired).
        """
        name = x509.SubjectAlternativeName([x509.DNSName(amphora_id)])
        return self._issue(amphora_id, validity, ExtendedKeyUsageOID.SERVER_AUTH, name)

    def issue_controller(self, name: str, validity: timedelta) -> IssuedCertificate:
        """For a controller: to command agents, to serve nothing. Otherwise as :meth:`issue_amphora`."""
        return self._issue(name, validity, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self, name: str, validity: timedelta, usage: ObjectIdentifier, *more: x509.ExtensionType
    ) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        validity = min(validity, _remaining(self.certificate))
        builder = _builder(name, key.public_key(), validity, usage, "digital_signature")
        builder = builder.issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        for extension in (self._key_identifier(), *more):
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM) + private_pem(key)
        return IssuedCertificate(pem, certificate.not_valid_after_utc.replace(tzinfo=None))

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        # The authority's own name for its key, which need not be computed as ours are.
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def private_pem(key: AuthorityKey) -> bytes:
    """A private key as unencrypted PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, validity: timedelta, usage: ObjectIdentifier, *key_usages: str
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usages = x509.KeyUsage(**{known: known in key_usages for known in _KEY_USAGES})
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(usages, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _refused("ca-unreadable", f"{path} is no readable PEM certificate: {error}") from error


def _read_key(path: Path, passphrase: str | None) -> AuthorityKey:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise _refused("ca-unreadable", f"{path} cannot be read: {error}") from error
    encrypted = b"ENCRYPTED" in pem
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode() if passphrase and encrypted else None)
    except TypeError as error:
        raise _refused("ca-passphrase-wrong", f"{path} is encrypted: set its passphrase") from error
    except ValueError as error:
        code = "ca-passphrase-wrong" if encrypted else "ca-unreadable"
        raise _refused(code, f"{path} is no private key in PEM that its passphrase opens") from error
    if not isinstance(key, AuthorityKey):
        raise _refused("ca-unreadable", f"{path} holds a key that signs no certificates: take RSA or ECDSA")
    return key


def _remaining(certificate: x509.Certificate) -> timedelta:
    end = certificate.not_valid_after_utc
    if end <= datetime.now(UTC):
        raise _refused(
            "ca-expired",
            f"the authority {certificate.subject.rfc4514_string()} expired on {end:%Y-%m-%d}: renew it, give its new "
            "certificate to all who trust the old one, then rotate the certificates that it issued",
        )
    return end - datetime.now(UTC)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _refused(code: str, message: str) -> SeamError:
    return SeamError(Seam.CONTROL, code, message, permanent=True)
