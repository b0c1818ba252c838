"""Whom amphorae and controllers believe: real TLS handshakes with what the authorities issue."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from tavia.pki import CLIENT, CLIENT_CA, CLIENT_CA_KEY, SERVER_CA, SERVER_CA_KEY, Authority, init

DAY = timedelta(days=1)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "pki"
    init(directory)
    return directory


def issued(keys: Path, amphora_id: str) -> Path:
    """The file of a new amphora certificate."""
    authority = Authority.load(keys / SERVER_CA, keys / SERVER_CA_KEY, None)
    path = keys / f"{amphora_id}.pem"
    path.write_bytes(authority.issue_amphora(amphora_id, DAY).pem)
    return path


def agent(keys: Path, certificate: Path) -> ssl.SSLContext:
    """As an amphora's agent listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(keys / CLIENT_CA)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def controller(keys: Path, certificate: Path) -> ssl.SSLContext:
    """As a controller calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(certificate)
    context.load_verify_locations(keys / SERVER_CA)
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A whole handshake in memory. Raises ssl.SSLError on whichever side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not ends


def test_a_controller_and_the_amphora_it_means_believe_each_other(keys: Path) -> None:
    shake_hands(agent(keys, issued(keys, "amphora-1")), controller(keys, keys / CLIENT), "amphora-1")


def test_another_amphora_is_not_the_one_that_was_meant(keys: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(agent(keys, issued(keys, "amphora-2")), controller(keys, keys / CLIENT), "amphora-1")


def test_an_amphora_cannot_command_another(keys: Path) -> None:
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands(agent(keys, issued(keys, "amphora-1")), controller(keys, issued(keys, "amphora-2")), "amphora-1")


def test_an_amphora_cannot_command_another_even_where_its_authority_is_trusted(keys: Path) -> None:
    careless = agent(keys, issued(keys, "amphora-1"))
    careless.load_verify_locations(keys / SERVER_CA)
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake_hands(careless, controller(keys, issued(keys, "amphora-2")), "amphora-1")


def test_a_controllers_certificate_serves_nothing(keys: Path) -> None:
    careless = controller(keys, keys / CLIENT)
    careless.load_verify_locations(keys / CLIENT_CA)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(agent(keys, keys / CLIENT), careless, "tavia-controller")


def test_the_server_authority_cannot_vouch_for_controllers(keys: Path) -> None:
    forged = keys / "forged.pem"
    servers = Authority.load(keys / SERVER_CA, keys / SERVER_CA_KEY, None)
    forged.write_bytes(servers.issue_controller("tavia-controller", DAY).pem)
    careless = agent(keys, issued(keys, "amphora-1"))
    careless.load_verify_locations(keys / SERVER_CA)
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake_hands(careless, controller(keys, forged), "amphora-1")


def test_a_stranger_without_a_certificate_is_refused(keys: Path) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(keys / SERVER_CA)
    with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
        shake_hands(agent(keys, issued(keys, "amphora-1")), stranger, "amphora-1")


def test_another_deployments_controller_is_refused(keys: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    init(other)
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands(agent(keys, issued(keys, "amphora-1")), controller(keys, other / CLIENT), "amphora-1")


def test_a_further_controller_may_be_issued(keys: Path) -> None:
    second = keys / "second.pem"
    clients = Authority.load(keys / CLIENT_CA, keys / CLIENT_CA_KEY, None)
    second.write_bytes(clients.issue_controller("second", DAY).pem)
    shake_hands(agent(keys, issued(keys, "amphora-1")), controller(keys, second), "amphora-1")
