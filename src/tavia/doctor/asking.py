"""How facts are asked for, so that nothing that fails ends the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tavia.doctor.findings import Unknown
from tavia.model.seams import SeamError

T = TypeVar("T")


def found(ask: Callable[[], T]) -> T | Unknown:
    """What it answers, or why it does not: whatever a server, a file or a library does is only not known."""
    try:
        return ask()
    except Unknown as unknown:
        return unknown
    except SeamError as error:
        return Unknown(str(error).partition(": ")[2])  # with the detail, which people of the house may see
    except Exception as error:
        said = str(error).splitlines() or [""]
        return Unknown(f"{type(error).__name__}: {said[0]}")
