"""``make bench-octavia``: Tavia against the real Octavia in one run. ``python -m bench.octavia --help``.

Both control planes with noop drivers, each with as many processes, on the same MariaDB and the same RabbitMQ, take
turns round by round. The machine should do nothing else meanwhile: every process shares its processors.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from bench import octavia_work
from bench.octavia_comparison import Comparison, as_json, as_table
from bench.octavia_real import version
from bench.octavia_stand import Stand, stand
from bench.octavia_work import Trees
from rich.console import Console

Row = Callable[[Stand, Trees, int], Iterator[Comparison]]

ROWS: dict[str, Row] = {
    "tree": octavia_work.tree,
    "member": octavia_work.member,
    "trees": octavia_work.trees,
    "members": octavia_work.members,
    "lists": octavia_work.lists,
}
"""What is measured, by the name that --only takes; told how many rounds."""
ROUNDS, QUICK_ROUNDS = 5, 1
WIDTH = 140
"""Columns that the table needs."""


def main(argv: Sequence[str] | None = None) -> None:
    """See the module. A missed goal is shown and no failure; one raises what broke."""
    parser = argparse.ArgumentParser(prog="python -m bench.octavia", description="Compare Tavia with Octavia.")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often each works, in turns (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="one round: a look, not a measurement")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    progress = Console(stderr=True, highlight=False)
    comparisons: list[Comparison] = []
    begun = datetime.now(UTC)
    try:
        with progress.status("starting both") as status, stand() as measured:
            trees = Trees(measured)
            status.update("measuring: idle")
            comparisons += octavia_work.idle(measured)
            for name in options.only or ROWS:
                status.update(f"measuring: {name}")
                comparisons += ROWS[name](measured, trees, QUICK_ROUNDS if options.quick else options.rounds)
    finally:  # what was measured before a row failed is worth showing
        show = Console()
        show.width = max(show.width, WIDTH)
        if options.format == "json":
            show.print(as_json(comparisons, conditions(begun)), soft_wrap=True, highlight=False, markup=False)
        else:
            show.print(as_table(comparisons, conditions(begun)))


def conditions(begun: datetime) -> dict[str, str]:
    """Where and when."""
    mariadb = subprocess.run(("mariadbd", "--version"), capture_output=True, text=True, check=True).stdout
    return {
        "date": f"{begun:%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}",
        "against": f"Octavia {version()}, both on MariaDB {mariadb.split()[2]}",
    }


if __name__ == "__main__":
    main()
