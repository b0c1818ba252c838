"""In which order a bundle's parts are put in force; tests/local/agent has the real programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tavia.agent import amphora as module
from tavia.agent import interfaces
from tavia.agent.amphora import Amphora
from tavia.agent.haproxy import Haproxy
from tavia.agent.keepalived import Keepalived
from tavia.agent.program import Facts, Files, Program, merged
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.bundle import Bundle, Fence, Interface
from tavia.amphora.heartbeat import Heartbeat
from tavia.amphora.protocol import Action, AgentStatus, BundleRefused

OURS = Interface(name="eth1", mac="fa:16:3e:00:00:05", mtu=1450, addresses=("10.20.0.5/24",))
MEMBERS = Interface(name="eth2", mac="fa:16:3e:00:00:06", mtu=1450, addresses=("10.77.0.5/24",))
BUNDLE = Bundle(
    amphora_id="an-id", loadbalancer_id="lb", generation=1, fence=Fence(1, 1, "worker"), files={}, interfaces=(OURS,)
)


class Noting:
    """A program that notes what is asked of it."""

    def __init__(self, name: str, done: list[str], *, needs_interfaces: bool, action: Action) -> None:
        self.name = name
        self.done = done
        self.needs_interfaces = needs_interfaces
        self.action = action
        self.refuses = ""

    async def adopt(self) -> None:
        self.done.append(f"{self.name} adopts")

    async def check(self, files: Files) -> None:
        self.done.append(f"{self.name} checks")
        if self.refuses == "check":
            raise BundleRefused(self.name, "no")

    async def converge(self, files: Files) -> Action:
        self.done.append(f"{self.name} converges")
        if self.refuses == "converge":
            self.refuses = ""
            raise BundleRefused(self.name, "no")
        return self.action

    async def observe(self, files: Files) -> Facts:
        return {"listeners": {self.name: 1}, f"{self.name}_up": True}

    async def watch(self) -> None:
        self.done.append(f"{self.name} is watched")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is done, in its order."""
    said: list[str] = []

    async def plug(old: Sequence[Interface], new: Sequence[Interface]) -> list[tuple[str, str]]:
        gone = [each.name for each in old if each not in new]
        said.append(f"without {gone}" if gone else f"with {[each.name for each in new]}")
        return []

    monkeypatch.setattr(interfaces, "converge", plug)
    monkeypatch.setattr(paths, "RUN_DIR", str(tmp_path / "run"))
    return said


@pytest.fixture
def programs(done: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Noting, Noting]:
    """The first serves, the second needs its interfaces for its check."""
    both = (
        Noting("one", done, needs_interfaces=False, action="runtime"),
        Noting("two", done, needs_interfaces=True, action="none"),
    )
    made: tuple[Callable[..., Program], ...] = tuple(lambda *_, each=each: each for each in both)
    monkeypatch.setattr(module, "PROGRAMS", made)
    return both


def amphora(base: Path) -> Amphora:
    return Amphora(AgentConfig(amphora_id="an-id", heartbeat_key=b"", controllers=(), base_path=base), lambda: None)


def test_a_program_gets_no_member_before_there_is_a_way_and_loses_it_before_the_way_goes(
    tmp_path: Path, done: list[str], programs: tuple[Noting, Noting]
) -> None:
    async def apply_all() -> list[Action]:
        ours = amphora(tmp_path)
        with_members = replace(BUNDLE, fence=Fence(1, 2, "worker"), interfaces=(OURS, MEMBERS))
        without = replace(BUNDLE, fence=Fence(1, 3, "worker"))
        return [(await ours.apply(each.to_json())).action for each in (BUNDLE, with_members, without)]

    assert asyncio.run(apply_all()) == ["runtime"] * 3, "the most that one of them needed"
    applied = ["two checks", "one converges", "two converges"]
    assert done == [
        *("one checks", "with ['eth1']", *applied),
        *("one checks", "with ['eth1', 'eth2']", *applied),
        *("one checks", "with ['eth1']", *applied, "without ['eth2']"),
    ]


@pytest.mark.parametrize(
    ("at", "undone"),
    [
        (("one", "check"), []),
        (("two", "check"), ["with ['eth1']", "two checks", "without ['eth1']"]),
        (
            ("two", "converge"),
            [
                *("with ['eth1']", "two checks", "one converges", "two converges"),
                *("without ['eth1']", "one converges", "two converges"),
            ],
        ),
    ],
)
def test_what_any_program_refuses_is_undone_for_all(
    tmp_path: Path, done: list[str], programs: tuple[Noting, Noting], at: tuple[str, str], undone: list[str]
) -> None:
    next(each for each in programs if each.name == at[0]).refuses = at[1]
    ours = amphora(tmp_path)
    with pytest.raises(BundleRefused):
        asyncio.run(ours.apply(BUNDLE.to_json()))
    assert done == ["one checks", *undone]
    assert ours.bundle is None and not (tmp_path / "bundle.json").exists()


def test_what_programs_know_is_told_together(tmp_path: Path, programs: tuple[Noting, Noting]) -> None:
    facts = asyncio.run(amphora(tmp_path).observe())
    assert facts == {"listeners": {"one": 1, "two": 1}, "one_up": True, "two_up": True, "no_carrier": ()}


def test_haproxy_and_keepalived_know_all_that_the_wire_has_of_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older controller needs every key that it knows."""
    monkeypatch.setattr(paths, "RUN_DIR", str(tmp_path))
    config = AgentConfig(amphora_id="an-id", heartbeat_key=b"", controllers=(), base_path=tmp_path)

    async def observe() -> dict[str, object]:
        return merged([await make(config, lambda: None).observe({}) for make in (Haproxy, Keepalived)])

    known = asyncio.run(observe())
    own = {"amphora_id", "boot_count", "start_id", "generation", "agent_version", "no_carrier"}
    of_status = {each.name for each in fields(AgentStatus)} - own - {"fence", "hash", "fault"}
    of_heartbeat = {each.name for each in fields(Heartbeat)} - own - {"seq", "bundle_hash", "complete"}
    assert set(known) == (of_status | of_heartbeat) - {"listeners", "pools"}
