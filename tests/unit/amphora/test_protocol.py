"""What the agent refuses is what the client raises; bundles are ordered by their fence."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from tavia.amphora.agent_config import AgentConfigError, parse_agent_config, render_agent_config
from tavia.amphora.bundle import Fence
from tavia.amphora.protocol import AgentFailed, BundleRefused, FenceRefused, applied, refusal, refused
from tavia.model.seams import Seam, SeamError

HELD = Fence(5, 3, "worker")


@pytest.mark.parametrize(
    ("offered", "is_refused"),
    [
        (HELD, False),
        (Fence(5, 4, "worker"), False),
        (Fence(6, 1, "another"), False),
        (Fence(5, 2, "worker"), True),
        (Fence(5, 4, "another"), True),
        (Fence(4, 9, "worker"), True),
    ],
)
def test_a_fence_refuses_what_is_earlier_and_another_owner_of_its_epoch(offered: Fence, is_refused: bool) -> None:
    assert HELD.refuses(offered) is is_refused


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FenceRefused(HELD), 409),
        (BundleRefused("haproxy.cfg", "unknown keyword", 12), 422),
        (BundleRefused("keepalived.conf", "unknown keyword"), 422),
        (AgentFailed("wrong-amphora", "this is another"), 400),
        (AgentFailed("interface-missing", "no such MAC"), 503),
        (AgentFailed("haproxy-silent", "nothing"), 500),
    ],
)
def test_a_refusal_goes_over_the_wire_and_comes_back_the_same(error: SeamError, status: int) -> None:
    sent_status, body = refusal(error)
    back = refused(sent_status, json.loads(json.dumps(body)))
    assert sent_status == status
    assert (type(back), vars(back)) == (type(error), vars(error))


UNBELIEVABLE: list[dict[str, Any]] = [
    {"epoch": "6"},
    {"epoch": True},
    {"epoch": 2**63},
    {"serial": -1},
    {"serial": 1.5},
    {"owner": None},
    {"owner": "x" * 65},
]


@pytest.mark.parametrize(
    "body",
    [{}, {"held": {"epoch": 1}}, {"held": None}, *({"held": asdict(HELD) | wrong} for wrong in UNBELIEVABLE)],
)
def test_a_conflict_without_a_fence_that_can_be_is_a_malformed_answer(body: dict[str, object]) -> None:
    assert refused(409, body).code == "agent-answer-malformed"


@pytest.mark.parametrize("body", [{}, {"action": "dance", "hash": "x"}, {"action": "none"}])
def test_an_answer_to_a_bundle_is_checked(body: dict[str, object]) -> None:
    with pytest.raises(AgentFailed) as failed:
        applied(body)
    assert failed.value.seam is Seam.AGENT


def rendered(**given: object) -> str:
    defaults = {
        "amphora_id": "5f2a",
        "controllers": ["192.0.2.1:5555", "[2001:db8::1]:5556"],
        "heartbeat_interval": 0.5,
        "heartbeat_key_hex": "00ff",
        "bind_port": 9443,
    }
    return render_agent_config(**(defaults | given))  # type: ignore[arg-type]


def test_the_agent_reads_the_configuration_that_the_controller_writes() -> None:
    config = parse_agent_config(rendered(bind_host="192.0.2.9"))
    assert config.amphora_id == "5f2a"
    assert config.controllers == (("192.0.2.1", 5555), ("2001:db8::1", 5556))
    assert (config.heartbeat_interval, config.heartbeat_key) == (0.5, b"\0\xff")
    assert (config.bind_host, config.bind_port) == ("192.0.2.9", 9443)
    assert str(config.server_cert) == "/etc/octavia/certs/server.pem"
    assert str(config.client_ca) == "/etc/octavia/certs/client_ca.pem"


def test_options_that_only_octavia_s_agent_knows_are_left_alone() -> None:
    parse_agent_config(rendered() + "[controller_worker]\nloadbalancer_topology = SINGLE\n")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "amphora_id"),
        ("no configuration", "no section headers"),
        (rendered(heartbeat_key_hex="xyz"), "hexadecimal"),
        (rendered(controllers=["192.0.2.1"]), "address:port"),
        (rendered(heartbeat_interval=0), "heartbeat_interval"),
        (rendered(heartbeat_interval=float("nan")), "heartbeat_interval"),
    ],
)
def test_a_configuration_that_cannot_be_taken_says_why(text: str, named: str) -> None:
    with pytest.raises(AgentConfigError, match=named):
        parse_agent_config(text)
