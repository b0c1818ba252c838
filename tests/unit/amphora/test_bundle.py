"""The bundle's wire form: the hash is carried, and file names are of a kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tavia.amphora.bundle import Bundle, BundleError, Fence, Interface, ProgramFile

OLD_HASH = "666a9165733d8bf4a80184c1241c4fdaac45bb59dcab590a44c2d8a43be40075"
"""Made by commit 533cdc1 of the same files and interfaces."""

INTERFACE = Interface(name="eth1", mac="fa:16:3e:00:00:05", mtu=1450, addresses=("10.20.0.5/24",))
GOOD = Bundle(
    amphora_id="a",
    loadbalancer_id="lb",
    generation=1,
    fence=Fence(1, 1, "worker"),
    files={ProgramFile.HAPROXY: "global"},
    interfaces=(INTERFACE,),
)


def wire(bundle: Bundle = GOOD, **more: Any) -> dict[str, Any]:
    return {**json.loads(bundle.to_json()), **more}


def read(content: dict[str, Any]) -> Bundle:
    return Bundle.from_json(json.dumps(content).encode())


def test_what_is_written_is_what_is_read() -> None:
    assert read(wire()) == GOOD


def test_the_hash_is_the_one_that_was_given_whatever_is_known_of_the_rest() -> None:
    assert read(wire(hash="of all keys", certificates=["a"])).hash == "of all keys"


def test_a_bundle_of_before_the_hash_travelled_has_the_same_hash_as_then() -> None:
    """A disk of an older agent has it, and its row the hash that was made of these keys."""
    old = wire()
    del old["hash"]
    assert read(old).hash == GOOD.hash == OLD_HASH


@pytest.mark.parametrize("changes", [{"generation": 9}, {"fence": Fence(9, 9, "another")}, {"amphora_id": "b"}])
def test_who_asks_is_not_in_the_hash(changes: dict[str, Any]) -> None:
    assert Bundle(**{**fields(GOOD), **changes, "hash": ""}).hash == GOOD.hash


@pytest.mark.parametrize("changes", [{"files": {ProgramFile.HAPROXY: "other"}}, {"interfaces": ()}])
def test_what_is_asked_for_is_in_the_hash(changes: dict[str, Any]) -> None:
    assert Bundle(**{**fields(GOOD), **changes, "hash": ""}).hash != GOOD.hash


@pytest.mark.parametrize("name", ["/etc/passwd", "../haproxy.cfg", "haproxy.cfg.d", "haproxyXcfg", "haproxy.cfg\n", ""])
def test_a_file_whose_name_is_of_no_kind_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="program configuration"):
        read(wire(files={name: "text"}))


@pytest.mark.parametrize("content", [[], "text", {"files": []}, wire(fence={}), wire(interfaces=[{}])])
def test_what_is_no_bundle_is_refused(content: Any) -> None:
    with pytest.raises(BundleError):
        read(content)


def fields(bundle: Bundle) -> dict[str, Any]:
    return {name: getattr(bundle, name) for name in Bundle.__dataclass_fields__}
