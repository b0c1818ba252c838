"""Servers that boot, and controllers that cannot reach their agents or are not obeyed: told by the seam that broke.

Each test makes a load balancer with a real amphora, but for those of controllers that a standing one does not obey.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from controllers import Service
from faults import Expected, healed, removed_again, shown
from instance import eventually
from openstack_cloud import OpenStackCloud
from tavia_on_cloud import BOOT_SECONDS, TaviaOnCloud

from tavia import pki
from tavia.cli.api_client import Json

SHOWN_SECONDS = 240.0
NOBODY = 10514
"""A port that the cloud lets heartbeats through to, and on which nobody listens."""
AGENT = 9443
QUICK = {"retry_pending_seconds": "2", "retry_interval_max": "3"}
AT_ONCE = {"retry_pending_seconds": "0"}
"""Whoever gives up an amphora shows it the first time."""
PATIENT = {"connection_max_retries": "120", "connection_retry_interval": "5", "rest_request_conn_timeout": "2"}
IMPATIENT = {**PATIENT, "connection_max_retries": "3"}
"""Gives up before any guest here can have booted."""
BadTls = Callable[[TaviaOnCloud, Path], dict[str, str]]
"""Makes what it needs in a directory; the options of [haproxy_amphora] that are wrong."""


def restarted(worker: Service, options: dict[str, str]) -> None:
    """With these options of [haproxy_amphora], which it reads when it starts."""
    worker.stop()
    worker.configure({"haproxy_amphora": options})
    worker.start()


def _listens(amphorae: list[Json], seconds: float = 2) -> bool:
    """Whether there is one, Nova booted it, and its agent takes connections. Raises OSError where it refuses them."""
    if not any(row["active_at"] for row in amphorae):
        return False
    with socket.create_connection((amphorae[0]["lb_network_ip"], AGENT), timeout=seconds):
        return True


def _is_up_and_closed(amphorae: list[Json]) -> bool:
    """Whether there is one that has its address, and whose port swallows what is sent to its agent.

    Raises OSError where nobody has that address: this takes the kernel three seconds to find out.
    """
    try:
        return _listens(amphorae, seconds=5)
    except TimeoutError:
        return True


def another_authority(_tavia: TaviaOnCloud, directory: Path) -> dict[str, str]:
    """Options of a controller that trusts an authority which signed no amphora's certificate."""
    pki.init(directory / "other")
    return {"server_ca": str(directory / "other" / pki.SERVER_CA)}


def expired_certificate(tavia: TaviaOnCloud, directory: Path) -> dict[str, str]:
    """Options of a controller whose own certificate was good until a minute ago."""
    certificates = Path(tavia.controllers.services[0].config_file).parent / "certs"
    authority = pki.Authority.load(certificates / pki.CLIENT_CA, certificates / pki.CLIENT_CA_KEY, None)
    expired = directory / "expired.pem"
    expired.touch(mode=0o600)
    expired.write_bytes(authority.issue_controller("expired", timedelta(seconds=-60)).pem)
    return {"client_cert": str(expired)}


with_bad_tls = pytest.mark.parametrize(
    ("bad_tls", "expected"),
    [
        pytest.param(
            another_authority,
            Expected("agent", "tls-refused-by-controller", "certificate verify failed"),
            id="it trusts another authority",
        ),
        pytest.param(
            expired_certificate,
            Expected("agent", "tls-refused-by-amphora", "client_cert has expired"),
            id="its certificate has expired",
        ),
    ],
)


@with_bad_tls
def test_a_controller_with_bad_tls_gives_up_what_it_boots(
    tavia: TaviaOnCloud, tmp_path: Path, bad_tls: BadTls, expected: Expected
) -> None:
    with tavia.another_worker(haproxy_amphora={**PATIENT, **bad_tls(tavia, tmp_path)}, tavia=AT_ONCE) as worker:
        made = tavia.create("not-obeyed")
        eventually(lambda: _listens(tavia.amphorae(made["id"])), "its agent listens", BOOT_SECONDS)
        assert tavia.show(made["id"])["provisioning_status"] == "PENDING_CREATE"
        restarted(worker, IMPATIENT)
        shown(tavia, made["id"], worker, expected, SHOWN_SECONDS)
        removed_again(tavia, made["id"])
    healed(tavia, made["id"])


@contextmanager
def group_without_the_agents_port(cloud: OpenStackCloud, name: str) -> Iterator[str]:
    """A security group that lets in nothing but pings."""
    network = cloud.admin.network
    made = network.create_security_group(name=name)
    network.create_security_group_rule(
        security_group_id=made.id, direction="ingress", ether_type="IPv4", protocol="icmp"
    )
    try:
        yield made.id
    finally:
        network.delete_security_group(made)


def test_a_security_group_without_9443_is_a_fault_of_the_management_network_until_it_is_opened(
    cloud: OpenStackCloud, tavia: TaviaOnCloud, unique: str
) -> None:
    with group_without_the_agents_port(cloud, unique) as group, ExitStack() as cleanup:
        cleanup.callback(tavia.clear)  # no port may have the group when it goes
        options = {"amp_secgroup_list": group}
        with tavia.another_worker(controller_worker=options, haproxy_amphora=PATIENT, tavia=AT_ONCE) as worker:
            made = tavia.create("closed")
            eventually(lambda: _is_up_and_closed(tavia.amphorae(made["id"])), "its network is up", BOOT_SECONDS)
            restarted(worker, IMPATIENT)
            expected = Expected("mgmt-net", "agent-timeout", "amp_secgroup_list let TCP 9443 in")
            shown(tavia, made["id"], worker, expected, SHOWN_SECONDS)
            removed_again(tavia, made["id"])
            cloud.admin.network.create_security_group_rule(
                security_group_id=group,
                direction="ingress",
                ether_type="IPv4",
                protocol="tcp",
                port_range_min=AGENT,
                port_range_max=AGENT,
            )
            restarted(worker, PATIENT)
            healed(tavia, made["id"])


def test_the_leg_on_the_management_network_is_down_while_nova_boots(cloud: OpenStackCloud, tavia: TaviaOnCloud) -> None:
    with cloud.leg_down(), tavia.another_worker(haproxy_amphora=IMPATIENT, tavia=AT_ONCE) as worker:
        made = tavia.create("cut-off")
        shown(
            tavia,
            made["id"],
            worker,
            Expected("mgmt-net", "agent-no-route", "is its leg in lb-mgmt-net up"),
            SHOWN_SECONDS,
        )
        removed_again(tavia, made["id"])
    healed(tavia, made["id"])


def test_heartbeats_that_go_to_a_wrong_address_are_an_alarm_and_no_failover(
    cloud: OpenStackCloud, tavia: TaviaOnCloud
) -> None:
    with tavia.another_worker(health_manager={"controller_ip_port_list": f"{cloud.leg_address}:{NOBODY}"}):
        made = tavia.create("unheard")
        tavia.await_status(made["id"], "ACTIVE")
        (amphora,) = tavia.amphorae(made["id"])
        path = f"/octavia/amphorae/{amphora['id']}"
        fault = eventually(lambda: tavia.api.call("GET", path)["amphora"]["fault"], "it is told", SHOWN_SECONDS)
    assert (fault["seam"], fault["code"]) == ("mgmt-net", "heartbeats-lost")
    assert "controller_ip_port_list" in fault["message"]
    assert "heartbeats-lost" in {row["code"] for row in tavia.operations(made["id"])}
    (health,) = tavia.controllers.named("tavia-health-manager")
    assert health.log.read_text().count(f"amphora-alarm of load balancer {made['id']}") == 1
    eventually(lambda: _heard(tavia, amphora["id"]), "the addresses are pushed again, and it is heard", 120)
    eventually(lambda: tavia.api.call("GET", path)["amphora"]["fault"] is None, "the alarm is over")
    assert [row["id"] for row in tavia.amphorae(made["id"])] == [amphora["id"]], "it was replaced"


def _heard(tavia: TaviaOnCloud, amphora_id: str) -> bool:
    return bool(tavia.rows("SELECT 1 FROM amphora_health WHERE amphora_id = :id", id=amphora_id))


@pytest.fixture(scope="module")
def standing(tavia_of_the_session: TaviaOnCloud) -> Iterator[Json]:
    """A load balancer that is ACTIVE, with a listener. Its tests come last: those above count what is on the cloud."""
    made = tavia_of_the_session.create("standing", listeners=[{"protocol": "HTTP", "protocol_port": 80}])
    yield tavia_of_the_session.await_status(made["id"], "ACTIVE")
    tavia_of_the_session.clear()


def changed(tavia: TaviaOnCloud, loadbalancer: Json) -> None:
    """Ask for a change that the amphora must be told."""
    listener = loadbalancer["listeners"][0]["id"]
    shown_now = tavia.api.call("GET", f"/lbaas/listeners/{listener}")["listener"]["timeout_client_data"]
    body = {"listener": {"timeout_client_data": shown_now + 1}}
    tavia.api.call("PUT", f"/lbaas/listeners/{listener}", body)


def check_refused(tavia: TaviaOnCloud, loadbalancer: Json, expected: Expected, **options: str) -> None:
    """A worker with these options is not obeyed and says so; the usual one has the change applied."""
    changed(tavia, loadbalancer)
    with tavia.another_worker(haproxy_amphora=options, tavia=QUICK) as worker:
        shown(tavia, loadbalancer["id"], worker, expected, SHOWN_SECONDS)
    found = tavia.await_status(loadbalancer["id"], "ACTIVE", 60)
    assert found["fault"] is None
    assert len(tavia.amphorae(loadbalancer["id"])) == 1, "it was replaced for a controller's mistake"


@with_bad_tls
def test_a_controller_with_bad_tls_is_not_obeyed_and_replaces_nothing(
    tavia_of_the_session: TaviaOnCloud, standing: Json, tmp_path: Path, bad_tls: BadTls, expected: Expected
) -> None:
    check_refused(tavia_of_the_session, standing, expected, **bad_tls(tavia_of_the_session, tmp_path))
