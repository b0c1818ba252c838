"""What cannot be reached, and who is refused: named, and never for longer than a step may last."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from driver_stand import Stand, until

from tavia.cloud.openstack.connection import LONGEST_CALL
from tavia.cloud.protocols import Cloud, Port
from tavia.model.seams import SeamError

NEUTRON_SERVER = (
    "neutron-server --config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini"
)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def failure(call: Callable[[], object]) -> SeamError:
    began = time.monotonic()
    with pytest.raises(SeamError) as failed:
        call()
    assert time.monotonic() - began < LONGEST_CALL + 1
    return failed.value


def faces(cloud: Cloud) -> dict[str, Callable[[], object]]:
    return {
        "nova": lambda: cloud.compute.servers(frozenset({"t"})),
        "neutron": cloud.networking.networks,
        "glance": lambda: cloud.images.image_id("t", None),
    }


@pytest.mark.parametrize("service", ["nova", "neutron", "glance"])
def test_a_wrong_password_is_named(stand: Stand, tmp_path: Path, service: str) -> None:
    refused = failure(faces(stand.cloud(tmp_path, password="wrong"))[service])
    assert (refused.seam, refused.code, refused.permanent) == ("control", "cloud-credentials-refused", True)
    assert "wrong" not in str(refused)


def test_a_project_that_the_user_is_not_in_is_named(stand: Stand, tmp_path: Path) -> None:
    refused = failure(stand.cloud(tmp_path, project_id="0" * 32).networking.networks)
    assert refused.code == "cloud-credentials-refused"


@pytest.mark.parametrize("service", ["nova", "neutron", "glance"])
def test_a_region_without_the_service_is_named(stand: Stand, tmp_path: Path, service: str) -> None:
    cloud = stand.cloud(tmp_path, f"[{service}]\nregion_name = Nowhere\n")
    missing = failure(faces(cloud)[service])
    assert (missing.seam, missing.code, missing.permanent) == ("control", "cloud-service-missing", True)
    assert f"[{service}]" in missing.message


@pytest.mark.parametrize("service", ["nova", "neutron", "glance"])
def test_a_service_that_refuses_connections_is_down(
    stand: Stand, tmp_path: Path, closed_port: int, service: str
) -> None:
    option = "endpoint_override" if service == "neutron" else "endpoint"
    cloud = stand.cloud(tmp_path, f"[{service}]\n{option} = http://127.0.0.1:{closed_port}/v2\n")
    down = failure(faces(cloud)[service])
    assert (down.seam, down.code, down.permanent) == ("boot", f"{service}-down", False)
    assert len(down.message) < 200


@pytest.mark.parametrize("given", [False, True], ids=["in the catalog", "by endpoint_override"])
def test_a_service_that_was_down_at_first_is_used_as_soon_as_it_is_up(
    stand: Stand, tmp_path: Path, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = stand.admin.network.get_endpoint_data().catalog_url
    cloud = stand.cloud(tmp_path, f"[neutron]\nendpoint_override = {url}\n" if given else "")
    real = requests.Session.request

    def refused(session: requests.Session, method: str, address: str, **kwargs: Any) -> requests.Response:
        if address.startswith(url):
            raise requests.ConnectionError("[Errno 111] Connection refused")
        return real(session, method, address, **kwargs)

    with monkeypatch.context() as cut:
        cut.setattr(requests.Session, "request", refused)
        down = failure(cloud.networking.networks)
    assert (down.code, down.permanent) == ("neutron-down", False)
    assert cloud.networking.networks()


def test_a_service_that_never_answers_is_down_before_a_step_must_end(
    stand: Stand, tmp_path: Path, silent_port: int
) -> None:
    cloud = stand.cloud(tmp_path, f"[nova]\nendpoint = http://127.0.0.1:{silent_port}/v2.1\n")
    assert failure(lambda: cloud.compute.server("s")).code == "nova-down"


def test_a_keystone_that_refuses_connections_is_down(stand: Stand, tmp_path: Path, closed_port: int) -> None:
    cloud = stand.cloud(tmp_path, auth_url=f"http://127.0.0.1:{closed_port}/v3")
    down = failure(cloud.networking.networks)
    assert (down.seam, down.code, down.permanent) == ("boot", "keystone-down", False)


def test_neutron_may_log_in_as_somebody_else(stand: Stand, tmp_path: Path) -> None:
    own = "\n".join(f"{name} = {value}" for name, value in stand.service.items())
    cloud = stand.cloud(tmp_path, f"[neutron]\nauth_type = password\n{own}\n", password="wrong")
    assert cloud.networking.networks()
    assert failure(lambda: cloud.compute.servers(frozenset({"t"}))).code == "cloud-credentials-refused"


def test_neutron_that_was_stopped_is_down_and_used_again_when_it_is_back(
    stand: Stand, cloud: Cloud, make_port: Callable[..., Port]
) -> None:
    def answers() -> bool:
        try:
            return bool(cloud.networking.networks())
        except SeamError:
            return False

    port = make_port()
    try:
        with stand.openstack.stopped("neutron-server", NEUTRON_SERVER):
            down = failure(lambda: cloud.networking.port(port.id))
    finally:
        until(answers, 90, "Neutron answers again")
    assert (down.seam, down.code, down.permanent) == ("boot", "neutron-down", False)
    assert cloud.networking.port(port.id) == port
