"""The same thing measured of Tavia and of Octavia in one run: medians, their ratio, and whether the goal is reached."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

EIGHTH = 1 / 8
"""The goal for times and processor time: at most this share of Octavia's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Samples of both, in ``unit``.

    ``ratio_goal``: the largest share of Octavia's median that Tavia's may be; ``goal``: the most that Tavia's own may
    be. Neither: told, not judged.
    """

    what: str
    unit: str
    tavia: Sequence[float]
    octavia: Sequence[float]
    ratio_goal: float | None = None
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Tavia's median to Octavia's; None where Octavia's is 0."""
        theirs = statistics.median(self.octavia)
        return statistics.median(self.tavia) / theirs if theirs else None

    @property
    def reached(self) -> bool | None:
        """None where nothing is asked for."""
        if self.goal is not None:
            return statistics.median(self.tavia) <= self.goal
        if self.ratio_goal is not None:
            return self.ratio is not None and self.ratio <= self.ratio_goal
        return None

    def to_json(self) -> dict[str, Any]:
        """All of it, with what is derived."""
        return {
            "what": self.what,
            "unit": self.unit,
            "tavia": _summary(self.tavia),
            "octavia": _summary(self.octavia),
            "ratio": self.ratio,
            "ratio_goal": self.ratio_goal,
            "goal": self.goal,
            "reached": self.reached,
            "note": self.note,
        }


def _summary(samples: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "n": len(samples)}


def as_json(comparisons: Sequence[Comparison], conditions: Mapping[str, str]) -> str:
    """For programs."""
    rows = [comparison.to_json() for comparison in comparisons]
    return json.dumps({"conditions": dict(conditions), "comparisons": rows}, indent=2)


def as_table(comparisons: Sequence[Comparison], conditions: Mapping[str, str]) -> Table:
    """For people. A cell has the median, then the smallest, the largest and the number of samples."""
    caption = "\n".join(f"{name}: {value}" for name, value in conditions.items())
    table = Table("what", "Tavia", "Octavia", "Tavia / Octavia", "goal", "", caption=caption, show_lines=True)
    for row in comparisons:
        table.add_row(
            f"{row.what}\n[dim]{row.note}[/]" if row.note else row.what,
            _cell(row.tavia, row.unit),
            _cell(row.octavia, row.unit),
            "" if row.ratio is None else _share(row.ratio),
            _goal(row),
            {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[row.reached],
        )
    return table


def _cell(samples: Sequence[float], unit: str) -> str:
    spread = f"{min(samples):.4g} .. {max(samples):.4g}, n = {len(samples)}"
    return f"{statistics.median(samples):.4g} {unit}\n[dim]{spread}[/]"


def _share(ratio: float) -> str:
    return f"1 / {1 / ratio:.3g}" if 0 < ratio < 1 else f"{ratio:.3g}"


def _goal(row: Comparison) -> str:
    if row.goal is not None:
        return f"≤ {row.goal:g} {row.unit}".rstrip()
    return "" if row.ratio_goal is None else f"≤ {_share(row.ratio_goal)}"
