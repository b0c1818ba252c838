"""What a server is given at its boot can be read by cloud-init and by any JSON parser."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tavia.cloud.openstack.userdata import LARGEST, user_data
from tavia.model.seams import SeamError

FILES = {"/etc/octavia/certs/server.pem": b"\x00key\xff", "/etc/octavia/amphora-agent.conf": b"[agent]\n"}


def test_it_is_cloud_config_in_one_line_of_json() -> None:
    head, line, rest = base64.b64decode(user_data(FILES)).decode().split("\n")
    assert (head, rest) == ("#cloud-config", "")
    assert yaml.safe_load(line) == json.loads(line)
    written = json.loads(line)["write_files"]
    assert {file["path"]: base64.b64decode(file["content"]) for file in written} == FILES
    assert {(file["owner"], file["permissions"], file["encoding"]) for file in written} == {
        ("root:root", "0600", "b64")
    }


def test_it_is_the_same_for_the_same_files() -> None:
    assert user_data(FILES) == user_data(dict(reversed(FILES.items())))


def test_it_fits_or_the_sizes_are_told() -> None:
    assert len(user_data({"/a": b"x" * 36_000})) <= LARGEST
    with pytest.raises(SeamError, match="/a: 40000") as refused:
        user_data({"/a": b"x" * 40_000})
    assert "xxxx" not in str(refused.value)
