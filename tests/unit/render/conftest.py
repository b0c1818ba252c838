"""HAProxy's and keepalived's own word on a configuration."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Check = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def haproxy_says(tmp_path: Path) -> Check:
    """``haproxy -c`` on a text."""

    def check(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        return subprocess.run(
            ["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, timeout=30, check=False
        )

    return check


@pytest.fixture
def accepted(haproxy_says: Check) -> Callable[[str], str]:
    """Assert that HAProxy accepts a configuration, and give it back."""

    def check(text: str) -> str:
        result = haproxy_says(text)
        assert result.returncode == 0, f"{result.stderr}\n{text}"
        return text

    return check


@pytest.fixture
def keepalived_accepts(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """``keepalived -t`` on a text, in a namespace that has the interface; its word on an accepted one."""
    namespace = f"render-{tmp_path.name}-{id(tmp_path) % 9999}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        batch = "link add eth1 type veth peer name other\nlink set eth1 up\nlink set other up\n"
        subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=batch, text=True, check=True)

        def check(text: str) -> str:
            path = tmp_path / "keepalived.conf"
            path.write_text(text)
            command = ["ip", "netns", "exec", namespace, "keepalived", "-t", "-f", str(path)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert result.returncode == 0, f"{result.stderr}{result.stdout}\n{text}"
            return result.stdout + result.stderr

        yield check
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
