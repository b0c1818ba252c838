"""``tavia operation ...``: the journal, read by people and programs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister
from cliff.show import ShowOne

from tavia.cli.base import DatabaseCommand
from tavia.cli.columns import COLOURS, DAY, HOUR, MINUTE, Named, Reason, Seconds, ShortId, State, When, Word, duration

if TYPE_CHECKING:
    from rich.console import Console

    from tavia.store.history import Entry, Operation, TakenStep

LIST_COLUMNS = ("id", "started", "loadbalancer", "what", "state", "took", "seam", "code", "reason", "host")
UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}


class ListOperations(DatabaseCommand, Lister):
    """List what was done to load balancers, the newest first: when, how long it took, and why it failed.

    Times are UTC. A table shows the beginning of an id, which `tavia operation show` takes; -f json has everything.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("loadbalancer", nargs="?", metavar="LB", help="only those of this one: its id or name")
        parser.add_argument("--host", help="only those of the worker on this host")
        parser.add_argument("--state", choices=tuple(COLOURS), help="only those in this state (lost: the worker died)")
        parser.add_argument("--what", help="only create, update, failover, delete, automatic-failover, release ...")
        parser.add_argument("--since", type=seconds, metavar="AGE", help="only the last 90s, 15m, 1h, 2d ...")
        parser.add_argument("--limit", type=positive, default=20, metavar="N", help="at most N (default: 20)")
        parser.add_argument("--marker", metavar="ID", help="go on after this one, the last of the page before")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff."""
        from tavia.store import history  # noqa: PLC0415  slow to import, not needed for help

        with self.database(parsed_args).read() as conn:
            criteria = history.Criteria(
                loadbalancer_id=history.loadbalancer_id(conn, parsed_args.loadbalancer)
                if parsed_args.loadbalancer
                else None,
                state=parsed_args.state,
                host=parsed_args.host,
                what=parsed_args.what,
                since=parsed_args.since,
                before=parsed_args.marker,
                limit=parsed_args.limit,
            )
            found = history.operations(conn, criteria)
        coloured = is_coloured(self.console)
        return LIST_COLUMNS, [row(operation, coloured) for operation in found]


class ShowOperation(DatabaseCommand, ShowOne):
    """Show one operation with all its steps: what was done to what, when, how long it took and why it failed.

    Also while it runs. Times are UTC; +0.25 s is a quarter of a second after its start.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        parser = super().get_parser(prog_name)
        parser.add_argument("operation", metavar="ID", help="its id, or as much of it as is unique")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """See cliff."""
        from tavia.store import history  # noqa: PLC0415  slow to import, not needed for help

        with self.database(parsed_args).read() as conn:
            self._operation = history.operation(conn, parsed_args.operation)
            self._steps = history.steps(conn, self._operation)
        return _for_programs(self._operation, self._steps)

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[Any]) -> int:
        """A timeline for people, cliff's formats for programs."""
        if parsed_args.formatter != "table" or parsed_args.columns:
            return int(super().produce_output(parsed_args, column_names, data))
        print_timeline(self.console, self._operation, self._steps)
        return 0


def row(operation: Operation, coloured: bool) -> tuple[Any, ...]:
    """One operation in the order of LIST_COLUMNS."""
    return (
        ShortId(operation.id),
        When(operation.started),
        Named(operation.loadbalancer_id, operation.loadbalancer_name),
        operation.what,
        State(operation.state, coloured),
        Seconds(operation.took),
        Word(operation.seam),
        Word(operation.code),
        Reason(operation.reason),
        operation.host,
    )


def _for_programs(operation: Operation, steps: Sequence[TakenStep]) -> tuple[Sequence[str], Sequence[Any]]:
    columns: dict[str, Any] = {
        "id": operation.id,
        "loadbalancer": operation.loadbalancer_id,
        "loadbalancer_name": operation.loadbalancer_name,
        "what": operation.what,
        "generation": operation.generation,
        "epoch": operation.epoch,
        "host": operation.host,
        **_entry(operation),
        "steps": [
            {
                "id": step.id,
                "what": step.what,
                "subject": step.subject,
                **{k: _plain(v) for k, v in _entry(step).items()},
            }
            for step in steps
        ],
    }
    return tuple(columns), tuple(columns.values())


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.state,
        "started": When(entry.started),
        "ended": When(entry.ended),
        "took": Seconds(entry.took),
        "seam": entry.seam,
        "code": entry.code,
        "reason": entry.reason,
    }


def _plain(value: Any) -> Any:
    return value.machine_readable() if isinstance(value, When | Seconds) else value


def print_timeline(console: Console, operation: Operation, steps: Sequence[TakenStep]) -> None:
    """An operation and its steps for people."""
    from rich.table import Table  # noqa: PLC0415  not needed for help
    from rich.text import Text  # noqa: PLC0415

    name = f"{operation.loadbalancer_name} " if operation.loadbalancer_name else ""
    console.print(Text(f"{operation.what} of load balancer {name}({operation.loadbalancer_id})", style="bold"))
    console.print(Text(f"operation {operation.id}, generation {operation.generation}, host {operation.host}"))
    took = f", {'for' if operation.state == 'running' else 'took'} {duration(operation.took)}"
    outcome = Text.assemble(
        f"started {When(operation.started)}{took if operation.took is not None else ''}: ",
        _state(operation.state),
    )
    console.print(outcome)
    if operation.code:
        console.print(Text(f"{operation.seam}/{operation.code}: {operation.reason}"), soft_wrap=True)
    if not steps:
        console.print("no steps")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("at", "took", "state", "step", "seam", "subject", "why"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("at", "took") else "left")
    for step in steps:
        why = f"{step.code}: {step.reason}" if step.code else ""
        at, took = f"+{step.started - operation.started:.2f} s", duration(step.took)
        table.add_row(at, took, _state(step.state), step.what, step.seam, Text(step.subject), Text(why))
    console.print(table)


def _state(state: str) -> Any:
    from rich.text import Text  # noqa: PLC0415  not needed for help

    return Text(state, style=COLOURS.get(state, ""))


def is_coloured(console: Console) -> bool:
    """Whether it is a terminal, and its owner wants colours (https://no-color.org)."""
    return console.is_terminal and not console.no_color


def seconds(age: str) -> float:
    """``90s``, ``15m``, ``1h``, ``2d`` -> seconds; for argparse."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", age)
    if not found:
        raise argparse.ArgumentTypeError(f"{age!r} is no age: a number and s, m, h or d, such as 90s, 15m, 1h, 2d")
    return float(found[1]) * UNITS[found[2]]


def positive(text: str) -> int:
    """A number from 1 on; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
