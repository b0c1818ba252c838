"""What HAProxy and keepalived say against a configuration, turned into the agent's refusal."""

from __future__ import annotations

import re
from pathlib import Path

from tavia.amphora.protocol import BundleRefused

MAX_MESSAGE = 4000
"""Characters of a program's words that are passed on."""

ALERT = re.compile(r"^\[ALERT\]\s+\(\d+\) : (.*)$", re.MULTILINE)
CONCLUSIONS = ("Error(s) found in configuration file", "Fatal errors found in configuration")
HAPROXY_LINE = re.compile(r"\[haproxy\.cfg:(\d+)\]")
KEEPALIVED_LINE = re.compile(r"\bLine (\d+)\)")


def haproxy_refuses(output: str, file: Path) -> BundleRefused:
    """Its alerts, without the process id and our path of the ``file`` that it read."""
    alerts = ALERT.findall(output.replace(str(file), "haproxy.cfg"))
    message = "\n".join(line for line in alerts if not any(words in line for words in CONCLUSIONS))
    return _refused("haproxy.cfg", message or output, HAPROXY_LINE)


def keepalived_refuses(output: str, file: Path) -> BundleRefused:
    """All that it says, each line once."""
    lines = output.replace(str(file), "keepalived.conf").splitlines()
    return _refused("keepalived.conf", "\n".join(dict.fromkeys(lines)), KEEPALIVED_LINE)


def _refused(file: str, message: str, numbered: re.Pattern[str]) -> BundleRefused:
    line = numbered.search(message)
    return BundleRefused(file, message[:MAX_MESSAGE].strip(), int(line[1]) if line else None)
