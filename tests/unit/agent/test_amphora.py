"""In which order a bundle's parts are put in force; tests/local/agent has the real programs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tavia.agent import interfaces
from tavia.agent.amphora import Amphora
from tavia.amphora import paths
from tavia.amphora.bundle import Bundle, Fence, Interface
from tavia.amphora.protocol import Action

OURS = Interface(name="eth1", mac="fa:16:3e:00:00:05", mtu=1450, addresses=("10.20.0.5/24",))
MEMBERS = Interface(name="eth2", mac="fa:16:3e:00:00:06", mtu=1450, addresses=("10.77.0.5/24",))


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


def made(base: Path, done: list[str], monkeypatch: pytest.MonkeyPatch) -> Amphora:
    amphora = Amphora("an-id", base, "haproxy", lambda: None)

    async def note(text: str | None) -> Action:
        del text
        done.append("haproxy")
        return "runtime"

    async def ignore(text: str | None) -> None:
        del text

    monkeypatch.setattr(amphora.haproxy, "converge", note)
    monkeypatch.setattr(amphora.keepalived, "converge", ignore)
    return amphora


def test_haproxy_gets_no_member_before_there_is_a_way_and_loses_it_before_the_way_goes(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Fence(1, 1, "worker")
    bundle = Bundle(amphora_id="an-id", loadbalancer_id="lb", generation=1, fence=first, files={}, interfaces=(OURS,))

    async def apply_all() -> None:
        amphora = made(tmp_path, done, monkeypatch)
        await amphora.apply(bundle)
        await amphora.apply(replace(bundle, fence=Fence(1, 2, "worker"), interfaces=(OURS, MEMBERS)))
        await amphora.apply(replace(bundle, fence=Fence(1, 3, "worker")))

    asyncio.run(apply_all())
    assert done == [
        *("with ['eth1']", "haproxy"),
        *("with ['eth1', 'eth2']", "haproxy"),
        *("with ['eth1']", "haproxy", "without ['eth2']"),
    ]
