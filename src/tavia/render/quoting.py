"""The one way by which a string that a tenant chose enters haproxy.cfg."""

from __future__ import annotations

import re
import string
from enum import Enum, auto

_PLAIN = frozenset((string.ascii_letters + string.digits + "-._:/,?=&+@~").encode())


class Place(Enum):
    """Where in a line a string stands, which decides what HAProxy does to it after it has cut the line into words."""

    WORD = auto()
    """Taken as it is."""
    FORMAT = auto()
    """Read as a log-format (HAProxy manual 8.2.4): ``%`` begins a variable or an expression."""
    ARGUMENT = auto()
    """Between the parentheses of a sample fetch or converter, which has a second level of quotes (manual 2.2)."""


def quoted(text: str, place: Place = Place.WORD) -> str:
    r"""``text`` as one word that HAProxy reads back byte for byte; never a directive, comment or second word.

    Every byte outside a few plain ones is written ``\xNN`` (manual 2.2). NUL cannot be expressed (``\x00`` would end
    the word early): it becomes ``\xNUL``, which HAProxy refuses on its line, so that its unit is held back.
    """
    if place is Place.FORMAT:
        text = text.replace("%", "%%")
    elif place is Place.ARGUMENT:
        text = '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    escaped = "".join(_escaped(byte) for byte in text.encode("utf-8", "surrogatepass"))
    return escaped or '""'


def _escaped(byte: int) -> str:
    if byte in _PLAIN:
        return chr(byte)
    return f"\\x{byte:02x}" if byte else "\\xNUL"
