"""An older agent goes on working with today's controller. It will not be changed: amphorae out there run it.

``frozen_agent.zip`` is commit c0eea79, made by ``git archive --format=zip -9 -o tests/local/agent/frozen_agent.zip
c0eea79:src tavia/__init__.py tavia/agent tavia/amphora tavia/model``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_lab import DAY, AgentHost, Lab, bundle, pair_bundles, until
from fleet import TIMEOUT, Fleet
from trees import listener, member, monitor, pool

from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import BundleRefused, FenceRefused
from tavia.housekeeping.resync import Resync

FROZEN = Path(__file__).with_name("frozen_agent.zip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer(Bundle):
    """A bundle of a controller to come, with more in it, and in its hash."""

    def to_json(self) -> bytes:
        content = json.loads(Bundle.to_json(self))
        more = [{**each, "vlan": 7} for each in content["interfaces"]]
        return json.dumps({**content, "interfaces": more, "certificates": ["a"], "rules": {}}).encode()

    @classmethod
    def of(cls, bundle: Bundle) -> Newer:
        return cls(**_fields(bundle) | {"hash": "of all keys"})


@pytest.fixture
def host(lab: Lab) -> AgentHost:
    return lab.host(source=FROZEN).ready()


def test_it_is_the_frozen_one(host: AgentHost) -> None:
    with host.client() as client:
        assert client.status().agent_version == ""


def test_it_takes_today_s_bundles_and_changes_members_without_a_reload(lab: Lab, host: AgentHost) -> None:
    lab.member(1), lab.member(2)
    rows = [listener(), pool(), member(), monitor()]
    first = bundle(host, *rows)
    with host.client() as client:
        applied = client.put_bundle(first)
    assert (applied.action, applied.hash) == ("start", first.hash), "resync goes by the hash: both must mean the same"
    assert until(lab.get) == b"10.20.0.101"
    assert host.put(bundle(host, *rows, member("m2", address="10.20.0.102"), fence=Fence(1, 2, "worker"))) == "runtime"
    until(lambda: lab.get() == b"10.20.0.102")


def test_it_refuses_in_words_that_today_s_controller_knows(host: AgentHost) -> None:
    host.put(bundle(host, listener(), pool(), fence=Fence(5, 1, "worker")))
    with pytest.raises(FenceRefused) as fenced:
        host.put(bundle(host, listener(), pool(), fence=Fence(4, 1, "late")))
    assert fenced.value.held == Fence(5, 1, "worker")
    with pytest.raises(BundleRefused):
        bad = bundle(host, listener(), pool(), fence=Fence(5, 2, "worker"))
        host.put(Bundle(**{**_fields(bad), "files": {"haproxy.cfg": "nonsense\n"}}))


def test_what_a_controller_to_come_adds_to_a_bundle_is_left_alone(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    plain = bundle(host, listener(), pool(), member())
    with host.client() as client:
        client.put_bundle(Newer.of(plain))
    assert until(lab.get) == b"10.20.0.101"


@pytest.mark.parametrize("source", [FROZEN, None], ids=["the frozen agent", "today's"])
def test_a_bundle_with_a_new_key_is_not_pushed_again_and_again(lab: Lab, source: Path | None) -> None:
    """The frozen one makes a hash of the keys that it knows, today's tells the one that it was given."""
    host = lab.host(source=source).ready()
    newer = Newer.of(bundle(host, listener(), pool()))
    with host.client() as client:
        held = client.put_bundle(newer).hash
    fleet = Fleet.at(lab.directory)
    (row,) = fleet.add(server=False, applied_hash=newer.hash, held_hash=held)
    resync = Resync(fleet.database, TIMEOUT, lambda: None)
    fleet.heard(row, bundle_hash=lab.heartbeat(lambda said: said.generation == 7).bundle_hash)
    resync.sweep()
    resync.sweep()
    assert (fleet.row(row).applied_hash, held == newer.hash) == ("of all keys", source is None)
    host.kill_agent()
    host.ready()
    assert lab.heartbeat(lambda said: said.boot_count == 2).bundle_hash == held


def test_its_heartbeats_are_read(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    host.put(bundle(host, listener(), pool(), member()))
    heartbeat = lab.heartbeat(lambda said: "web" in said.listeners)
    assert (heartbeat.amphora_id, heartbeat.generation, heartbeat.agent_version) == (host.id, 7, None)


def test_it_takes_a_new_certificate_and_configuration(lab: Lab, host: AgentHost) -> None:
    before = host.certificate()
    with host.client() as client:
        client.put_certificate(lab.server_ca.issue_amphora(host.id, DAY).pem)
        client.put_config(host.configure(interval=0.2))
    assert host.certificate() != before


def test_it_is_half_of_a_pair_with_one_of_today(lab: Lab, host: AgentHost) -> None:
    lab.member(1)
    hosts = (host, lab.host(1).ready())
    for each, made in zip(hosts, pair_bundles(hosts, listener(), pool(), member()), strict=True):
        each.put(made)
    until(lambda: {each.state() for each in hosts} == {"MASTER", "BACKUP"})
    assert until(lab.get) == b"10.20.0.101"


def _fields(bundle: Bundle) -> dict[str, Any]:
    return {name: getattr(bundle, name) for name in Bundle.__dataclass_fields__}
