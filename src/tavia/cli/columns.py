"""Values in cliff's tables: short for people, whole for programs (``-f json``, ``csv``, ``value``, ``yaml``)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime

from cliff.columns import FormattableColumn

COLOURS = {
    "running": "cyan",
    "done": "green",
    "waiting": "yellow",
    "failed": "red",
    "handed-over": "yellow",
    "lost": "red",
}
"""The states of the journal."""
_SGR = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}
"""ECMA-48's numbers of the colours."""
LONGEST_REASON = 60
MINUTE, HOUR, DAY = 60, 3600, 86400


class When(FormattableColumn[float | None]):
    """A time, given as seconds since the epoch; ISO 8601 for programs."""

    def human_readable(self) -> str:
        """To the second, UTC."""
        return moment(self._value)

    def machine_readable(self) -> str | None:  # type: ignore[override]
        """ISO 8601, UTC."""
        return None if self._value is None else datetime.fromtimestamp(self._value, UTC).isoformat()


class Seconds(FormattableColumn[float | None]):
    """A duration, seconds."""

    def human_readable(self) -> str:
        """With two units at most."""
        return duration(self._value)

    def machine_readable(self) -> float | None:
        """Milliseconds are enough."""
        return None if self._value is None else round(self._value, 3)


class ShortId(FormattableColumn[str]):
    """The beginning of an id, which ``tavia operation show`` takes too."""

    def human_readable(self) -> str:
        """Eight characters."""
        return self._value[:8]


class Named(FormattableColumn[str]):
    """An id, by the name where it has one."""

    def __init__(self, value: str, name: str | None) -> None:
        super().__init__(value)
        self._name = name

    def human_readable(self) -> str:
        """Its name."""
        return self._name or self._value[:8]


class State(FormattableColumn[str]):
    """A state, by default one of the journal, coloured on a terminal."""

    def __init__(self, value: str, coloured: bool, colours: Mapping[str, str] = COLOURS) -> None:
        super().__init__(value)
        self._colour = colours.get(value) if coloured else None

    def human_readable(self) -> str:
        """See COLOURS."""
        return f"\033[{_SGR[self._colour]}m{self._value}\033[0m" if self._colour else self._value


class Reason(FormattableColumn[str | None]):
    """A sentence, its beginning only in a table."""

    def human_readable(self) -> str:
        """One line."""
        return textwrap.shorten(self._value or "", LONGEST_REASON, placeholder=" …")


class Word(FormattableColumn[str | None]):
    """A word that may be missing: nothing in a table, null for programs."""

    def human_readable(self) -> str:
        """The word."""
        return self._value or ""


def moment(seconds: float | None) -> str:
    """``2026-01-02 03:04:05Z``; nothing for None."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``7.1 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 1 h``; nothing for None."""
    if seconds is None:
        return ""
    if seconds < MINUTE:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    for unit, name, small, small_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} {int(seconds % unit // small)} {small_name}"
    raise AssertionError(seconds)
