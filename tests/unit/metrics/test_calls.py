"""Calls of clouds and agents are timed and otherwise left as they are."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from counted import growth

from tavia import pki
from tavia.amphora.client import AgentClient, Unreachable
from tavia.cloud.noop import NoopCloud
from tavia.cloud.protocols import Network, NotFound
from tavia.metrics.calls import timed_cloud
from tavia.model.seams import Seam, SeamError


class Broken(NoopCloud):
    def networks(self) -> list[Network]:
        raise SeamError(Seam.BOOT, "quota", "full")

    def power_off(self, server_id: str) -> None:
        raise NotFound("server", server_id)


def test_a_cloud_answers_as_before_and_is_counted_by_face_and_call() -> None:
    cloud = NoopCloud()
    timed = timed_cloud("network", cloud)
    with growth("tavia_cloud_call_seconds_count", face="network", call="subnet", outcome="done") as calls:
        assert [timed.subnet("one"), timed.subnet("two")] == [cloud.subnet("one"), cloud.subnet("two")]
    assert isinstance(timed, NoopCloud)
    assert calls.by == 2


def test_a_clouds_failure_passes_and_says_whether_waiting_could_cure_it() -> None:
    timed = timed_cloud("compute", Broken())
    with (
        growth("tavia_cloud_call_seconds_count", face="compute", call="networks", outcome="failed") as failed,
        growth("tavia_cloud_call_seconds_count", face="compute", call="power_off", outcome="refused") as refused,
    ):
        with pytest.raises(SeamError, match="full"):
            timed.networks()
        with pytest.raises(NotFound):
            timed.power_off("gone")
    assert (failed.by, refused.by) == (1, 1)


def test_an_agent_that_does_not_answer_is_counted_at_its_seam(tmp_path: Path) -> None:
    pki.init(tmp_path)
    with (
        socket.socket() as closed,
        growth("tavia_agent_call_seconds_count", call="status", outcome="failed-mgmt-net") as failed,
    ):
        closed.bind(("127.0.0.1", 0))
        client = AgentClient(
            "127.0.0.1", closed.getsockname()[1], "an-amphora", client_cert=tmp_path / pki.CLIENT,
            server_ca=tmp_path / pki.SERVER_CA, connect_timeout=2.0, read_timeout=2.0,
        )  # fmt: skip
        with pytest.raises(Unreachable):
            client.status()
    assert failed.by == 1
