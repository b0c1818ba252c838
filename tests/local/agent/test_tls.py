"""Mutual TLS with two authorities: who may talk to the agent, and how the client tells what went wrong."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from agent_lab import DAY, AgentHost, Lab, inside, until
from cryptography.x509.oid import ExtendedKeyUsageOID

from tavia.amphora.client import BundleRefused, TlsRefused, Unreachable
from tavia.model.seams import Seam, SeamError
from tavia.pki import Authority


def test_a_client_of_another_authority_is_refused_by_the_amphora(lab: Lab, host: AgentHost) -> None:
    stranger = Authority.create("strangers", ExtendedKeyUsageOID.CLIENT_AUTH, DAY).issue_controller("stranger", DAY)
    certificate = lab.file("stranger.pem", stranger.pem)
    with host.client(client_cert=certificate) as client, pytest.raises(TlsRefused) as refused:
        client.status()
    assert (refused.value.by, refused.value.seam) == ("amphora", Seam.AGENT)


def test_another_amphora_cannot_command_this_one(lab: Lab, host: AgentHost) -> None:
    with host.client(client_cert=host.disk / "server.pem") as client, pytest.raises(TlsRefused) as refused:
        client.status()
    assert refused.value.by == "amphora"


def test_an_agent_of_another_authority_is_refused_by_the_controller(lab: Lab, host: AgentHost) -> None:
    with host.client(server_ca=lab.directory / "client_ca.pem") as client, pytest.raises(TlsRefused) as refused:
        client.status()
    assert refused.value.by == "controller"


def test_another_amphora_s_agent_is_refused_by_the_controller(host: AgentHost) -> None:
    another = "00000000-0000-4000-8000-000000000099"
    with host.client(amphora_id=another) as client, pytest.raises(TlsRefused) as refused:
        client.status()
    assert refused.value.by == "controller"


def test_old_tls_is_not_spoken(host: AgentHost) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with inside(host.lab.world), socket.create_connection(("10.30.0.5", 9443), 5) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_nothing_listening_no_route_and_silence_are_told_apart(lab: Lab) -> None:
    host = lab.host()
    with host.client() as client, pytest.raises(Unreachable) as nobody:
        client.status()
    silence = host.taken("10.30.0.5", 9443), host.client(read_timeout=0.5)
    with silence[0], silence[1] as client, pytest.raises(Unreachable) as silent:
        client.status()
    assert (nobody.value.code, silent.value.code) == ("agent-connect-refused", "agent-answer-timeout")
    lab.ip(host.netns, "link set mgmt0 down")
    with host.client(connect_timeout=0.3) as client, pytest.raises(Unreachable) as gone:
        client.status()
    lab.ip(lab.world, "addr del 10.30.0.1/24 dev eth0")
    with host.client(connect_timeout=0.3) as client, pytest.raises(Unreachable) as without_route:
        client.status()
    assert (gone.value.code, without_route.value.code) == ("agent-timeout", "agent-no-route")
    assert {each.value.seam for each in (nobody, silent, gone, without_route)} == {Seam.MGMT_NET}


def test_the_controller_s_own_certificate_missing_is_its_own_fault(lab: Lab, host: AgentHost) -> None:
    with pytest.raises(SeamError) as refused, host.client(client_cert=Path("/nonexistent.pem")):
        pass
    assert (refused.value.seam, refused.value.code) == (Seam.CONTROL, "controller-certificate-unusable")


def test_a_rotated_certificate_is_in_force_for_new_connections_and_after_a_restart(lab: Lab, host: AgentHost) -> None:
    rotated = lab.server_ca.issue_amphora(host.id, DAY).pem
    before = host.certificate()
    with host.client() as client:
        client.put_certificate(rotated)
    assert (host.disk / "server.pem").read_bytes() == rotated
    assert (host.disk / "server.pem").stat().st_mode & 0o777 == 0o600
    after = host.certificate()
    assert after != before
    host.kill_agent()
    host.ready()
    assert host.certificate() == after


def test_what_is_no_certificate_is_refused_and_the_old_one_stays(host: AgentHost) -> None:
    before = host.certificate()
    with host.client() as client, pytest.raises(BundleRefused):
        client.put_certificate(b"no certificate")
    assert host.certificate() == before


def test_a_restarted_agent_is_talked_to_by_the_same_client(host: AgentHost) -> None:
    with host.client() as client:
        first = client.status().boot_count
        host.kill_agent()
        host.ready()
        assert until(client.status).boot_count == first + 1
