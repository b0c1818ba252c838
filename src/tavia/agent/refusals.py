"""What a program says against its configuration, turned into the agent's refusal."""

from __future__ import annotations

import re

from tavia.amphora.protocol import BundleRefused

MAX_MESSAGE = 4000
"""Characters of a program's words that are passed on."""


def refused(file: str, message: str, numbered: re.Pattern[str]) -> BundleRefused:
    """The refusal of a bundle's ``file``; the first line that ``numbered`` finds in the message is the one at fault."""
    line = numbered.search(message)
    return BundleRefused(file, message[:MAX_MESSAGE].strip(), int(line[1]) if line else None)
