"""What a row found, whether that is good enough, and how it is shown."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Samples of one thing. ``goal`` None: told to compare with, not judged.

    The median must not be above the goal; with ``at_least`` the upper end of its confidence interval must reach it.
    """

    what: str
    unit: str
    samples: Sequence[float]
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def median(self) -> float:
        """What is judged."""
        return statistics.median(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """The median's 95 % confidence interval, by bootstrap (always the same for the same samples)."""
        chance = random.Random(0)
        size = len(self.samples)
        medians = sorted(statistics.median(chance.choices(self.samples, k=size)) for _ in range(RESAMPLES))
        return medians[RESAMPLES // 40], medians[-RESAMPLES // 40]

    @property
    def passed(self) -> bool | None:
        """None where nothing is asked for."""
        if self.goal is None:
            return None
        return self.interval[1] >= self.goal if self.at_least else self.median <= self.goal

    def to_json(self) -> dict[str, Any]:
        """All of it, with what is derived."""
        return {
            "what": self.what,
            "unit": self.unit,
            "goal": self.goal,
            "goal_is": "at least" if self.at_least else "at most",
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "n": len(self.samples),
            "interval": self.interval if self.at_least else None,
            "passed": self.passed,
            "note": self.note,
        }


def as_json(figures: Sequence[Figure]) -> str:
    """For programs."""
    return json.dumps([figure.to_json() for figure in figures], indent=2)


def as_table(figures: Sequence[Figure]) -> Table:
    """For people."""
    table = Table("what", "goal", "median", "min .. max", "n", "")
    for figure in figures:
        table.add_row(
            f"{figure.what}\n[dim]{figure.note}[/]" if figure.note else figure.what,
            _goal(figure),
            f"{figure.median:.4g} {figure.unit}",
            f"{min(figure.samples):.4g} .. {max(figure.samples):.4g}",
            str(len(figure.samples)),
            {True: "[green]pass[/]", False: "[red]miss[/]", None: ""}[figure.passed],
        )
    return table


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {figure.goal:g} {figure.unit}"
