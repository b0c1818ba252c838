"""What is wrong with octavia.conf and with certificates, on real files."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from good_deployment import Examine

from tavia import pki
from tavia.doctor import asking_host, checks
from tavia.doctor.certificates import FILES
from tavia.doctor.facts import Facts, File
from tavia.doctor.findings import Finding, Status

OK, WARNING, WRONG, UNKNOWN = Status.OK, Status.WARNING, Status.WRONG, Status.UNKNOWN


@pytest.mark.parametrize(
    ("check", "options", "changed", "status", "message"),
    [
        ("options", {}, {"unused": ["[nova] made_up"]}, WARNING, "[nova] made_up"),
        ("heartbeat-key", {("health_manager", "heartbeat_key"): None}, {}, WRONG, "not set"),
        ("heartbeat-key", {("health_manager", "heartbeat_key"): "insecure"}, {}, WRONG, "everybody knows"),
        ("heartbeat-key", {("health_manager", "heartbeat_key"): "a" * 40}, {}, WRONG, "everybody knows"),
        ("heartbeat-key", {("health_manager", "heartbeat_key"): "kD9x!"}, {}, WARNING, "5 characters"),
        (
            "secrets",
            {},
            {"assigned": {"certificates": {"server_certs_key_passphrase": ["insecure-key-do-not-use-this-key"]}}},
            WRONG,
            "[certificates] server_certs_key_passphrase",
        ),
        ("secrets", {}, {"assigned": {"service_auth": {"password": ["password"]}}}, WRONG, "[service_auth] password"),
        ("debug", {("DEFAULT", "debug"): True}, {}, WARNING, "debug is on"),
        ("authentication", {("api_settings", "auth_strategy"): "noauth"}, {}, WRONG, "an administrator"),
        (
            "authentication",
            {("api_settings", "auth_strategy"): "noauth", ("api_settings", "bind_host"): "127.0.0.1"},
            {},
            WARNING,
            "everybody on this host",
        ),
        ("encryption", {("nova", "insecure"): True}, {}, WRONG, "[nova]"),
    ],
)
def test_unsafe_values_are_named(
    examine: Examine,
    check: str,
    options: dict[tuple[str, str], Any],
    changed: dict[str, Any],
    status: Status,
    message: str,
) -> None:
    (finding,) = examine(check, options, **changed)
    assert (finding.status, message in finding.message, bool(finding.advice)) == (status, True, True), finding


def test_no_secret_is_in_what_is_said(examine: Examine) -> None:
    for key in ("hunter2hunt", "insecure"):
        (finding,) = examine("heartbeat-key", {("health_manager", "heartbeat_key"): key})
        assert key not in finding.message + finding.advice


@pytest.mark.parametrize(("mode", "status"), [(0o640, OK), (0o644, WARNING)])
def test_octavia_conf_is_not_for_everybody(facts: Facts, tmp_path: Path, mode: int, status: Status) -> None:
    path = tmp_path / "octavia.conf"
    path.touch(mode)
    path.chmod(mode)
    facts.conf.set_override("config_file", [str(path)])
    file = asking_host.files(facts.conf)[str(path)]
    (finding,) = _examine(dataclasses.replace(facts, files={**facts.files, str(path): file}), "configuration-files")
    assert finding.status is status


def _examine(facts: Facts, check: str) -> list[Finding]:
    return [finding for finding in checks.examine(facts, on_openstack=False) if finding.check == check]


class Files:
    """The certificates of a deployment, to be spoiled."""

    def __init__(self, facts: Facts, directory: Path) -> None:
        self._facts = facts
        self.directory = directory
        pki.init(directory)
        self.name("ca_certificate", pki.SERVER_CA)
        self.name("ca_private_key", pki.SERVER_CA_KEY)
        self.name("server_ca", pki.SERVER_CA)
        self.name("client_cert", pki.CLIENT)
        self.name("client_ca", pki.CLIENT_CA)

    def name(self, option: str, file: str) -> None:
        self._facts.conf.set_override(option, str(self.directory / file), FILES[option])

    def other_authority(self, name: str, usage: Any, **validity: int) -> pki.Authority:
        made = pki.Authority.create("other", usage, timedelta(**(validity or {"days": 100})))
        (self.directory / f"{name}.pem").write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        key = made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.directory / f"{name}.key").write_bytes(key)
        (self.directory / f"{name}.key").chmod(0o600)
        return made

    def said(self, check: str, days: int = 0) -> list[Finding]:
        now = datetime.now(UTC) + timedelta(days=days)
        looked = dataclasses.replace(self._facts, files=asking_host.files(self._facts.conf), now=now)
        return _examine(looked, check)


@pytest.fixture
def files(facts: Facts, tmp_path: Path) -> Files:
    return Files(facts, tmp_path / "certs")


def only(found: list[Finding]) -> tuple[Status, str, str]:
    (finding,) = found
    return finding.status, finding.message, finding.advice


def test_a_missing_file_is_named_once_and_the_rest_is_not_known(files: Files) -> None:
    (files.directory / pki.CLIENT).unlink()
    status, message, advice = only(files.said("certificate-files"))
    assert (status, "[haproxy_amphora] client_cert" in message) == (WRONG, True)
    assert advice.endswith(f"tavia certs init {files.directory}")
    assert only(files.said("controller-certificate"))[0] is UNKNOWN
    pki.init(files.directory)
    assert only(files.said("certificate-files"))[0] is OK


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "client_ca"),
    ],
)
def test_a_file_that_holds_something_else_is_named(files: Files, content: bytes, message: str) -> None:
    (files.directory / pki.CLIENT_CA).write_bytes(content)
    found = files.said("certificate-files")
    assert [finding.status for finding in found] == [WRONG]
    assert message in found[0].message


def test_what_the_services_cannot_read_is_named(facts: Facts) -> None:
    path = facts.conf.haproxy_amphora.client_cert
    hidden = {**facts.files, path: dataclasses.replace(facts.files[path], hidden_from="octavia")}
    status, message, advice = only(_examine(dataclasses.replace(facts, files=hidden), "certificate-files"))
    assert (status, "octavia and cannot read it" in message) == (WRONG, True)
    assert advice == f"chown -R octavia: {Path(path).parent}"


def test_a_private_key_is_its_owners_alone(files: Files) -> None:
    (files.directory / pki.SERVER_CA_KEY).chmod(0o640)
    status, message, advice = only(files.said("private-key-modes"))
    assert (status, "0640" in message) == (WRONG, True)
    assert advice == f"chmod 0600 {files.directory / pki.SERVER_CA_KEY}"


@pytest.mark.parametrize(
    ("passphrase", "message"), [(None, "is encrypted"), ("wrong", "does not open it"), ("right", None)]
)
def test_a_passphrase_has_to_open_the_key(
    files: Files, facts: Facts, passphrase: str | None, message: str | None
) -> None:
    path = files.directory / pki.SERVER_CA_KEY
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"right")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    facts.conf.set_override("ca_private_key_passphrase", passphrase, "certificates")
    status, said, _ = only(files.said("certificate-files"))
    assert (status, message is None or message in said) == (WRONG if message else OK, True)


def test_a_key_of_another_authority_is_told(files: Files) -> None:
    files.other_authority("other", ExtendedKeyUsageOID.SERVER_AUTH)
    files.name("ca_private_key", "other.key")
    status, message, _ = only(files.said("amphora-authority"))
    assert (status, "is not the key of" in message) == (WRONG, True)


def test_amphorae_that_controllers_would_refuse_are_told(files: Files) -> None:
    files.other_authority("other", ExtendedKeyUsageOID.SERVER_AUTH)
    files.name("server_ca", "other.pem")
    status, message, advice = only(files.said("amphora-authority"))
    assert (status, "controllers refuse every amphora" in message) == (WRONG, True)
    assert advice == f"cat {files.directory / pki.SERVER_CA} >> {files.directory / 'other.pem'}"
    bundle = files.directory / "other.pem"
    bundle.write_bytes(bundle.read_bytes() + (files.directory / pki.SERVER_CA).read_bytes())
    assert only(files.said("amphora-authority"))[0] is OK


def test_a_controller_that_amphorae_would_refuse_is_told(files: Files) -> None:
    files.other_authority("other", ExtendedKeyUsageOID.CLIENT_AUTH)
    files.name("client_ca", "other.pem")
    status, message, _ = only(files.said("controller-certificate"))
    assert (status, "amphorae refuse this controller" in message) == (WRONG, True)


def test_a_controllers_certificate_is_for_clients(files: Files) -> None:
    made = files.other_authority("other", ExtendedKeyUsageOID.SERVER_AUTH)
    (files.directory / pki.CLIENT).write_bytes(made.issue_amphora("x", timedelta(days=5)).pem)
    files.name("client_ca", "other.pem")
    status, message, _ = only(files.said("controller-certificate"))
    assert (status, "clientAuth" in message) == (WRONG, True)


def test_one_authority_for_both_is_told(files: Files) -> None:
    files.name("client_ca", pki.SERVER_CA)
    status, message, _ = only(files.said("two-authorities"))
    assert (status, "could command all others" in message) == (WRONG, True)


@pytest.mark.parametrize(
    ("days", "status", "message"),
    [
        (0, OK, "first certificate to expire"),
        (345, WARNING, "expires on"),
        (370, WRONG, "expired on"),
        (-1, WRONG, "from"),
    ],
)
def test_dates_are_judged(files: Files, days: int, status: Status, message: str) -> None:
    found = files.said("certificate-dates", days)
    assert {finding.status for finding in found} == {status}
    assert all(message in finding.message for finding in found)


def test_an_unreadable_file_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    assert asking_host.pem_file(tmp_path, None) == File(problem="Is a directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root finds out what others may read")
def test_whether_the_services_user_can_read_a_file_is_found_out_as_that_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking_host, "SERVICE_USER", "nobody")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key.pem"
        path.touch(0o600)
        Path(directory).chmod(0o755)
        assert asking_host.hidden_from(path) == "nobody"
        path.chmod(0o644)
        assert asking_host.hidden_from(path) is None
        Path(directory).chmod(0o700)
        assert asking_host.hidden_from(path) == "nobody"
