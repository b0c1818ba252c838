"""A tavia-api process that asks a real Keystone, and the clients that people have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import memcached
import pytest
import requests
import yaml
from keystone_server import PROJECTS, REGION, USERS, Keystone
from keystoneauth1.identity.v3 import ApplicationCredential
from keystoneauth1.session import Session
from ports import free_port

from tavia.store.migrate import upgrade

SUBNET = "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33"
BIN = Path(sys.executable).parent


@dataclass
class Service:
    """A running tavia-api."""

    url: str
    directory: Path
    keystone: Keystone

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def openstack(self, user: str, *words: str, ok: bool = True) -> Any:
        """What the CLI prints for ``openstack loadbalancer``, as JSON where it can."""
        done = forked.openstack(self.directory / "clouds.yaml", user, "loadbalancer", *words)
        assert (done.returncode == 0) == ok, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("[", "{")) else done.stdout + done.stderr

    def get(self, token: str | None, path: str = "/v2/lbaas/loadbalancers") -> requests.Response:
        headers = {"X-Auth-Token": token} if token else {}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=60)


@pytest.fixture(scope="module")
def service(keystone: Keystone, memcached_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("api")
    connection = f"sqlite:///{directory}/tavia.sqlite"
    upgrade(connection)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (directory / "octavia.conf").write_text(
        f"[api_settings]\nbind_port = {port}\n"
        "[controller_worker]\ncompute_driver = compute_noop_driver\nnetwork_driver = network_noop_driver\n"
        "image_driver = image_noop_driver\n"
        f"[database]\nconnection = {connection}\n[health_manager]\nheartbeat_key = not-used\n"
        + keystone.authtoken(memcached_servers=memcached_server, http_request_max_retries="0")
    )
    clouds = {user: {"auth": keystone.credentials(user), "region_name": REGION} for user in (*USERS, "admin")}
    (directory / "clouds.yaml").write_text(yaml.safe_dump({"clouds": clouds}))
    keystone.add_service("load-balancer", url)
    keystone.add_service("network", f"{url}/network")
    command = ["-c", "from tavia.api.service import main; main()", "--config-file", str(directory / "octavia.conf")]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", sys.executable, *command], stdout=log, stderr=log)
    running = Service(url, directory, keystone)
    try:
        until(lambda: answers(url) or process.poll() is not None, running)
        assert process.poll() is None, running.log
        yield running
    finally:
        process.terminate()
        process.wait(30)  # far less than graceful_shutdown_timeout: nothing is under way


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.ConnectionError:
        return False


def until(condition: Callable[[], bool], service: Service) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, service.log
        time.sleep(0.05)


def test_each_project_has_its_load_balancers_and_an_admin_all(service: Service) -> None:
    created = service.openstack("member", "create", "--name", "mine", "--vip-subnet-id", SUBNET, "-f", "json")
    assert created["project_id"] == PROJECTS["tenant"]
    refused = service.openstack("reader", "create", "--name", "no", "--vip-subnet-id", SUBNET, ok=False)
    assert "policy does not allow" in refused
    assert "(HTTP 403)" in refused
    theirs = ("create", "--name", "theirs", "--vip-subnet-id", SUBNET, "--project", "other", "-f", "json")
    assert service.openstack("admin", *theirs)["project_id"] == PROJECTS["other"]
    assert [row["name"] for row in service.openstack("stranger", "list", "-f", "json")] == ["theirs"]
    assert [row["name"] for row in service.openstack("admin", "list", "-f", "json")] == ["mine", "theirs"]
    of_one = service.openstack("admin", "list", "--project", "tenant", "-f", "json")
    assert [row["name"] for row in of_one] == ["mine"]
    shown = service.get(service.keystone.token("stranger"), f"/v2/lbaas/loadbalancers/{created['id']}")
    assert (shown.status_code, "mine" in shown.text) == (403, False)


def test_a_tenant_drives_pool_and_members_and_deletes_it_all(service: Service) -> None:
    service.openstack("member", "create", "--name", "web", "--vip-subnet-id", SUBNET)
    pool = ("--name", "pool", "--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN", "--loadbalancer", "web")
    service.openstack("member", "pool", "create", *pool)
    service.openstack("member", "member", "create", "--address", "10.0.0.1", "--protocol-port", "80", "pool")
    listed = service.openstack("reader", "member", "list", "pool", "-f", "json")
    assert [member["address"] for member in listed] == ["10.0.0.1"]
    service.openstack("member", "delete", "web", "--cascade")
    state = service.openstack("reader", "show", "web", "-f", "json")
    assert state["provisioning_status"] == "PENDING_DELETE"


def test_without_keystone_cached_tokens_go_on_and_others_get_503(service: Service, memcached_server: str) -> None:
    cached, unknown = service.keystone.token("member"), service.keystone.token("member")
    before = memcached.statistics(memcached_server)
    assert service.get(cached).status_code == 200
    assert int(memcached.statistics(memcached_server)["cmd_set"]) > int(before["cmd_set"])
    service.keystone.stop()
    try:
        assert service.get(cached).status_code == 200
        assert int(memcached.statistics(memcached_server)["get_hits"]) > int(before["get_hits"])
        refused = service.get(unknown)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "control/keystone-unavailable" in refused.json()["faultstring"]
        assert "control/keystone-unavailable" in service.log
    finally:
        service.keystone.start()
    assert service.get(unknown).status_code == 200


def test_garbage_and_no_token_are_401_and_say_where_keystone_is(service: Service) -> None:
    for token in ("garbage", None):
        refused = service.get(token)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (
            401,
            f'Keystone uri="{service.keystone.url}"',
        )
    assert service.get(None, "/").status_code == 200


def test_application_credentials_work_until_they_expire_though_the_token_is_cached(service: Service) -> None:
    session = service.keystone.session("member")
    expires = datetime.now(UTC) + timedelta(seconds=20)
    made = session.post(
        f"{service.keystone.url}/v3/users/{session.get_user_id()}/application_credentials",
        json={"application_credential": {"name": "app", "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}},
    ).json()["application_credential"]
    auth = ApplicationCredential(
        auth_url=f"{service.keystone.url}/v3",
        application_credential_id=made["id"],
        application_credential_secret=made["secret"],
    )
    token = Session(auth=auth).get_token()
    assert service.get(token).status_code == 200
    until(lambda: service.get(token).status_code == 401, service)
    assert datetime.now(UTC) >= expires - timedelta(seconds=1)


def test_a_changed_policy_counts_without_a_restart(service: Service) -> None:
    token = service.keystone.token("nobody")
    assert service.get(token).status_code == 403
    override = service.directory / "policy.yaml"
    override.write_text('"os_load-balancer_api:loadbalancer:get_all": "role:guest"\n')
    try:
        assert service.get(token).status_code == 200
    finally:
        override.unlink()


def test_the_log_names_request_and_user(service: Service) -> None:
    session = service.keystone.session("member")
    override = service.directory / "policy.yaml"
    override.write_text("a: b: c")
    try:
        answer = service.get(session.get_token())
    finally:
        override.unlink()
    assert (answer.status_code, "control/policy-unreadable" in answer.text) == (503, True)
    line = next(line for line in service.log.splitlines() if answer.headers["x-openstack-request-id"] in line)
    assert str(session.get_user_id()) in line
    assert PROJECTS["tenant"] in line
