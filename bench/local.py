"""``make bench-local``: Tavia's figures on this machine, against their goals. ``python -m bench.local --help``.

Starts an instance of its own beside any other, measures through the API, the VIP and the kernel's own tools, and
removes all of it. The machine should do nothing else meanwhile: every process shares its processors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

from bench import changes, running
from bench.figures import Figure, as_json, as_table
from bench.stand import Stand, stand
from rich.console import Console

Row = Callable[[Stand, bool], Iterator[Figure]]

ROWS: dict[str, Row] = {
    "create-single": lambda s, quick: changes.create(s, "SINGLE", 1.0, 3 if quick else 7),
    "create-pair": lambda s, quick: changes.create(s, "ACTIVE_STANDBY", 1.5, 3 if quick else 7),
    "member": lambda s, quick: changes.member(s, 5 if quick else 20),
    "burst": lambda s, quick: changes.burst(s, 2 if quick else 5),
    "changes": lambda s, quick: changes.under_load(s, 20 if quick else 200),
    "outage": lambda s, quick: running.outage(s, "0.1", True, 2 if quick else 5),
    "outage-octavia": lambda s, quick: running.outage(s, "1", False, 1 if quick else 5),
    "memory": lambda s, quick: running.memory(s, 2 if quick else 5),
    "throughput": lambda s, quick: running.throughput(s, 4 if quick else 20),
}
"""What is measured, by the name that --only takes; told whether to be quick, which is not exact."""


def main(argv: Sequence[str] | None = None) -> None:
    """See the module. Exits with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.local", description="Measure Tavia on this machine.")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="few samples: a look, not a measurement")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    progress = Console(stderr=True, highlight=False)
    figures: list[Figure] = []
    try:
        with stand() as measured:
            for name in options.only or ROWS:
                with progress.status(f"measuring: {name}"):
                    figures += ROWS[name](measured, options.quick)
    finally:  # what was measured before a row failed is worth showing
        if options.format == "json":
            Console().print(as_json(figures), soft_wrap=True, highlight=False, markup=False)
        else:
            Console().print(as_table(figures))
    raise SystemExit(any(figure.passed is False for figure in figures))


if __name__ == "__main__":
    main()
