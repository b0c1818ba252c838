"""The files that `tavia up` makes, and the authorities that operators bring along."""

from __future__ import annotations

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tavia.model.seams import Seam, SeamError
from tavia.pki import CLIENT, CLIENT_CA, CLIENT_CA_KEY, SERVER_CA, SERVER_CA_KEY, Authority, init
from tavia.pki.authority import private_pem

DAY = timedelta(days=1)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def octavias(tmp_path: Path) -> tuple[Path, Path]:
    """An authority as Octavia's guide makes one: RSA, with a passphrase."""
    cert, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    openssl("genrsa", "-aes256", "-passout", "pass:secret", "-out", key, "2048")
    new = ("req", "-new", "-x509", "-days", "30", "-subj", "/CN=Octavia CA", "-passin", "pass:secret")
    openssl(*new, "-key", key, "-out", cert)
    return cert, key


def test_init_makes_private_files(tmp_path: Path) -> None:
    init(tmp_path / "deep" / "pki")
    directory = tmp_path / "deep" / "pki"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert set(contents(directory)) == {SERVER_CA, SERVER_CA_KEY, CLIENT_CA, CLIENT_CA_KEY, CLIENT}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    init(tmp_path)
    before = contents(tmp_path)
    init(tmp_path)
    assert contents(tmp_path) == before


def test_init_finishes_what_a_crash_left(tmp_path: Path) -> None:
    init(tmp_path)
    authority = (tmp_path / CLIENT_CA).read_bytes()
    (tmp_path / SERVER_CA).unlink()
    (tmp_path / CLIENT).unlink()
    init(tmp_path)
    Authority.load(tmp_path / SERVER_CA, tmp_path / SERVER_CA_KEY, None)
    assert (tmp_path / CLIENT).exists()
    assert (tmp_path / CLIENT_CA).read_bytes() == authority


def test_init_renews_a_controllers_certificate_before_it_expires(tmp_path: Path) -> None:
    init(tmp_path)
    clients = Authority.load(tmp_path / CLIENT_CA, tmp_path / CLIENT_CA_KEY, None)
    (tmp_path / CLIENT).write_bytes(clients.issue_controller("tavia-controller", 20 * DAY).pem)
    init(tmp_path)
    renewed = x509.load_pem_x509_certificate((tmp_path / CLIENT).read_bytes())
    assert renewed.not_valid_after_utc > datetime.now(UTC) + 300 * DAY


def test_init_never_replaces_an_authority_whose_key_is_lost(tmp_path: Path) -> None:
    init(tmp_path)
    (tmp_path / SERVER_CA_KEY).unlink()
    with pytest.raises(SeamError) as caught:
        init(tmp_path)
    assert (caught.value.seam, caught.value.code) == (Seam.CONTROL, "ca-unreadable")
    assert SERVER_CA_KEY in caught.value.message


def test_an_amphoras_certificate_names_it_and_serves_only(tmp_path: Path) -> None:
    authority = Authority.create("test", ExtendedKeyUsageOID.SERVER_AUTH, 30 * DAY)
    made = authority.issue_amphora("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", DAY)
    certificate = x509.load_pem_x509_certificate(made.pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.expires == certificate.not_valid_after_utc.replace(tzinfo=None)
    assert made.expires.tzinfo is None


def test_nothing_is_issued_for_longer_than_the_authority_lives() -> None:
    authority = Authority.create("test", ExtendedKeyUsageOID.SERVER_AUTH, 30 * DAY)
    end = authority.certificate.not_valid_after_utc.replace(tzinfo=None)
    assert end - timedelta(seconds=2) <= authority.issue_amphora("a", 3000 * DAY).expires <= end


def test_keys_show_in_no_log() -> None:
    authority = Authority.create("test", ExtendedKeyUsageOID.SERVER_AUTH, DAY)
    assert "PRIVATE" not in repr(authority.issue_amphora("a", DAY))
    assert "Key" not in repr(authority)


def test_an_operators_authority_with_a_passphrase_issues_too(octavias: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = octavias
    pem = tmp_path / "amphora.pem"
    pem.write_bytes(Authority.load(cert, key, "secret").issue_amphora("a", DAY).pem)
    openssl("verify", "-CAfile", cert, "-purpose", "sslserver", pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)


@pytest.mark.parametrize("passphrase", [None, "wrong"])
def test_a_missing_or_wrong_passphrase_is_named(octavias: tuple[Path, Path], passphrase: str | None) -> None:
    with pytest.raises(SeamError) as caught:
        Authority.load(*octavias, passphrase)
    assert caught.value.code == "ca-passphrase-wrong"


def refusal(cert: Path, key: Path) -> str:
    with pytest.raises(SeamError) as caught:
        Authority.load(cert, key, None)
    assert caught.value.seam is Seam.CONTROL
    assert caught.value.permanent
    return caught.value.code


def test_what_is_no_usable_authority_is_refused_with_a_reason(tmp_path: Path) -> None:
    init(tmp_path)
    good, key, other = tmp_path / SERVER_CA, tmp_path / SERVER_CA_KEY, tmp_path / CLIENT_CA_KEY
    (tmp_path / "nonsense").write_text("nonsense")
    assert refusal(tmp_path / "absent", key) == "ca-unreadable"
    assert refusal(good, tmp_path / "nonsense") == "ca-unreadable"
    assert refusal(good, other) == "ca-key-mismatch"
    assert refusal(tmp_path / CLIENT, tmp_path / CLIENT) == "ca-not-an-authority"


def test_an_expired_authority_is_refused_and_issues_nothing(tmp_path: Path) -> None:
    expired = Authority.create("old", ExtendedKeyUsageOID.SERVER_AUTH, timedelta(minutes=-1))
    cert, key = tmp_path / "old.pem", tmp_path / "old.key"
    cert.write_bytes(expired.certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(private_pem(expired.key))
    assert refusal(cert, key) == "ca-expired"
    with pytest.raises(SeamError, match="ca-expired"):
        expired.issue_amphora("a", DAY)
