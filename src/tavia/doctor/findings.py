"""What a check says, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from tavia.model.seams import Seam

T = TypeVar("T")


class Status(StrEnum):
    """How it stands with what was checked."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says: how it stands, what that means, what to type."""

    status: Status
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``check`` is stable and meant for programs, ``advice`` empty where nothing is to do."""

    seam: Seam
    check: str
    status: Status
    message: str
    advice: str


class Unknown(Exception):
    """Stands in the place of a fact that could not be found out; says why. A rule that needs the fact raises it."""


def known(fact: T | Unknown) -> T:
    """The fact. Raises Unknown."""
    if isinstance(fact, Unknown):
        raise fact
    return fact


def good(message: str) -> Said:
    """It is as it should be."""
    return Said(Status.OK, message)


def warning(message: str, advice: str) -> Said:
    """It works, but not well, or not for long."""
    return Said(Status.WARNING, message, advice)


def wrong(message: str, advice: str) -> Said:
    """It does not work, or must not be left so."""
    return Said(Status.WRONG, message, advice)
