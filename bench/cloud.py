"""``make bench-cloud``: Tavia on a real OpenStack. ``python -m bench.cloud --help``.

Where the time of a boot goes, for how long nobody is served while something is replaced, and how often Nova and Neutron
are asked. Guests are as slow as this machine's emulation makes them: only what is Tavia's own is judged.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from bench import cloud_work
from bench.cloud_work import Stand, stand
from bench.figures import Figure, as_json, as_table
from rich.console import Console

Row = Callable[[Stand, int], Iterator[Figure]]

ROWS: dict[str, Row] = {
    "create": cloud_work.create,
    "failover": cloud_work.failover,
    "takeover": cloud_work.takeover,
}
"""What is measured, by the name that --only takes; told how often."""
REPEATS, QUICK_REPEATS = 3, 1


def main(argv: Sequence[str] | None = None) -> None:
    """See the module. Exits with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.cloud", description="Measure Tavia on a real OpenStack.")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="each once: a look, not a measurement")
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # what is on the cloud is removed then too
    progress = Console(stderr=True, highlight=False)
    figures: list[Figure] = []
    try:
        with progress.status("starting") as status, stand() as measured:
            for name in options.only or ROWS:
                status.update(f"measuring: {name}")
                figures += ROWS[name](measured, QUICK_REPEATS if options.quick else REPEATS)
    finally:  # what was measured before a row failed is worth showing
        if options.format == "json":
            Console().print(as_json(figures), soft_wrap=True, highlight=False, markup=False)
        else:
            Console().print(as_table(figures))
    raise SystemExit(any(figure.passed is False for figure in figures))


if __name__ == "__main__":
    main()
