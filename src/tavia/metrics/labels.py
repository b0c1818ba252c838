"""Label values that come from elsewhere, kept to a bounded set."""

from __future__ import annotations

import re

MOST_CODES = 200
"""More than there are in Tavia; an amphora that is broken into makes up codes as it likes."""
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_seen: set[str] = set()


def code(value: str) -> str:
    """A failure's code; "other" for what is none, or one too many in this process."""
    if value not in _seen:
        if len(_seen) >= MOST_CODES or not _CODE.fullmatch(value):
            return "other"
        _seen.add(value)
    return value


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


def method(value: str) -> str:
    """An HTTP method; "other" for one that HTTP does not have."""
    return value if value in METHODS else "other"
