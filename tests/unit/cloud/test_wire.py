"""What goes over the local cloud's socket comes out as it went in, errors as the class that callers tell apart."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tavia.cloud.local import wire
from tavia.cloud.local.records import Records, write_atomically
from tavia.cloud.local.service import answer
from tavia.cloud.protocols import (
    AddressRefused,
    FixedIp,
    Network,
    NotFound,
    Port,
    Server,
    ServerSpec,
    ServerStatus,
    Subnet,
)
from tavia.model.seams import Seam, SeamError

PORT = Port(
    id="p",
    name="port",
    network_id="n",
    mac_address="02:00:00:00:00:01",
    fixed_ips=(FixedIp(subnet_id="s", ip_address="192.0.2.5"),),
    allowed_addresses=frozenset({"192.0.2.9", "192.0.2.8"}),
    tags=frozenset({"b", "a"}),
)
OBJECTS: list[tuple[Any, Callable[[Any], Any]]] = [
    (PORT, wire.port),
    (Network(id="n", name="net", mtu=1450, subnet_ids=("s", "t")), wire.network),
    (Subnet(id="s", name="sub", network_id="n", cidr="192.0.2.0/24", host_routes=(("10.0.0.0/8", "a"),)), wire.subnet),
    (Server(id="v", name="v", status=ServerStatus.OFF, created_at=1.5, tags=frozenset({"t"})), wire.server),
    (
        ServerSpec(
            name="v",
            image_id=None,
            flavor=None,
            port_ids=["p"],
            files={"/etc/octavia/x": b"\x00\xff"},
            tags=frozenset({"t"}),
        ),
        wire.server_spec,
    ),
]


@pytest.mark.parametrize(("value", "decode"), OBJECTS, ids=lambda value: type(value).__name__)
def test_a_value_survives_the_wire(value: Any, decode: Callable[[Any], Any]) -> None:
    assert decode(json.loads(json.dumps(wire.encode(value)))) == value


@pytest.mark.parametrize(
    "error",
    [
        NotFound("port", "p"),
        AddressRefused("subnet-full", "full"),
        SeamError(Seam.BOOT, "haproxy-missing", "install it", permanent=True),
        SeamError(Seam.CONTROL, "c", "m"),
    ],
    ids=lambda error: f"{type(error).__name__} {error.code}",
)
def test_an_error_survives_the_wire_with_its_class(error: SeamError) -> None:
    decoded = wire.decode_error(json.loads(json.dumps(wire.encode_error(error))))
    assert type(decoded) is type(error)
    assert (decoded.seam, decoded.code, decoded.message, decoded.permanent) == (
        error.seam,
        error.code,
        error.message,
        error.permanent,
    )


@pytest.mark.parametrize("line", [b"not json\n", b'{"call": "nothing"}\n', b"[]\n"])
def test_a_request_that_makes_no_sense_is_answered_with_an_error(line: bytes) -> None:
    assert answer({}, line)["error"]["code"] == "local-cloud-failed"


def test_records_are_found_again_and_are_for_root_only(tmp_path: Path) -> None:
    Records(tmp_path / "ports", wire.port).put("p", PORT)
    assert list(Records(tmp_path / "ports", wire.port)) == [PORT]
    assert stat.S_IMODE((tmp_path / "ports" / "p.json").stat().st_mode) == 0o600


def test_a_crash_before_a_record_is_replaced_leaves_the_old_one(tmp_path: Path) -> None:
    records = Records(tmp_path, wire.port)
    records.put("p", PORT)
    (tmp_path / "p.json.new").write_text("half a rec")
    assert list(Records(tmp_path, wire.port)) == [PORT]
    write_atomically(tmp_path / "p.json", b"{}")
    assert (tmp_path / "p.json").read_bytes() == b"{}"
