"""An agent's certificate is renewed while traffic flows, and its heartbeats go on."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta

from instance import Instance, eventually
from local_cloud import within

from tavia import pki
from tavia.cli.api_client import Json
from tavia.store.clock import utcnow

AGENT_PORT = 9443


def shown(instance: Instance, amphora: Json) -> bytes:
    """The certificate that its agent shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(instance.embedded.certificates / pki.CLIENT)

    def ask() -> bytes:
        address = (amphora["lb_network_ip"], AGENT_PORT)
        with socket.create_connection(address, 5) as connection, context.wrap_socket(connection) as tls:
            return tls.getpeercert(binary_form=True) or b""

    return within(instance.embedded.instance.fabric, ask)


def test_certificates_near_their_end_are_renewed_and_clients_and_heartbeats_notice_nothing(instance: Instance) -> None:
    balancer = instance.balancer("renewed")
    balancer.await_active()
    balancer.await_statuses(lb="ONLINE", red="ONLINE", green="ONLINE")
    amphorae = balancer.amphorae()
    before = {amphora["id"]: shown(instance, amphora) for amphora in amphorae}
    soon = utcnow() + timedelta(days=1)
    with instance.traffic(balancer) as seen:
        instance.execute(
            "UPDATE amphora SET cert_expiration = :soon WHERE loadbalancer_id = :id", soon=soon, id=balancer.id
        )
        instance.execute("UPDATE load_balancer SET due_at = 0 WHERE id = :id", id=balancer.id)
        eventually(
            lambda: all(shown(instance, amphora) != before[amphora["id"]] for amphora in amphorae),
            "both agents show another certificate",
        )
        balancer.change("PUT", balancer.member_path("green"), member={"weight": 3})
        balancer.await_active()
    assert seen.failures == []
    assert {a["id"]: a["status"] for a in balancer.amphorae()} == {a["id"]: "ALLOCATED" for a in amphorae}
    (latest,) = instance.rows(
        "SELECT MIN(cert_expiration) AS first FROM amphora WHERE loadbalancer_id = :id", id=balancer.id
    )
    assert str(latest["first"]) > str(soon + timedelta(days=1))
    assert balancer.statuses()["lb"] == "ONLINE"
    assert balancer.show()["fault"] is None
