"""``tavia doctor``: what is wrong with a file and the cloud that it names, and what to type."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from tavia.cli.base import DatabaseCommand
from tavia.cli.columns import State, Word

if TYPE_CHECKING:
    from rich.console import Console

    from tavia.doctor.findings import Finding

COLUMNS = ("seam", "check", "status", "message", "advice")
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red", "unknown": "cyan"}
ALL_WELL, SOMETHING_WRONG, NOT_ALL_KNOWN = 0, 1, 2


class Doctor(DatabaseCommand, Lister):
    """Check octavia.conf, this host and the cloud; for each thing wrong say what it means and what to type.

    Nothing is changed. Run it on a controller, as root: it also looks at whether the services' user can read the files.
    Exit status: 0 nothing is wrong (there may be warnings), 1 something is, 2 nothing known is but not all could be
    checked.
    """

    def run(self, parsed_args: argparse.Namespace) -> int:
        """See cliff. The exit status tells a script what was found."""
        self._found: Sequence[Finding] = ()
        return super().run(parsed_args) or _status(self._found)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """See cliff."""
        from tavia import config  # noqa: PLC0415  slow to import, not needed for help
        from tavia.doctor import checks, gathering  # noqa: PLC0415

        files = parsed_args.config_file or self._default_files(parsed_args, config.DEFAULT_CONFIG_FILES)
        try:
            conf = config.parse([word for path in files for word in ("--config-file", str(path))], "tavia", [])
        except config.Mistakes as mistakes:
            self._found = list(_mistakes(mistakes.found, [str(path) for path in files]))
        else:
            facts = gathering.gather(conf, self._progress)
            self._found = list(checks.examine(facts, on_openstack=gathering.is_openstack(conf)))
        return COLUMNS, [
            (
                str(finding.seam),
                finding.check,
                State(finding.status, False),
                finding.message,
                Word(finding.advice or None),
            )
            for finding in self._found
        ]

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any) -> int:
        """A report for people, cliff's formats for programs."""
        if parsed_args.formatter != "table" or parsed_args.columns:
            return int(super().produce_output(parsed_args, column_names, data))
        print_report(self.console, self._found)
        return 0

    def _progress(self, text: str) -> AbstractContextManager[Any]:
        """On the standard error of a terminal: what programs read stays clean."""
        from rich.console import Console  # noqa: PLC0415  not needed for help

        console = Console(stderr=True)
        return console.status(text) if console.is_terminal else nullcontext()


def _mistakes(found: Sequence[str], files: Sequence[str]) -> Iterator[Finding]:
    from tavia.doctor.findings import Finding, Status  # noqa: PLC0415
    from tavia.model.seams import Seam  # noqa: PLC0415

    unreadable = [name for name in files if not _readable(name)]
    status = Status.UNKNOWN if unreadable else Status.WRONG
    advice = f"ls -l {' '.join(unreadable)}" if unreadable else f"mend it in {', '.join(files)}"
    for mistake in found:
        yield Finding(Seam.CONTROL, "options", status, mistake, advice)


def _readable(name: str) -> bool:
    try:
        return bool(Path(name).read_text() or True)
    except OSError:
        return False


def _status(found: Sequence[Finding]) -> int:
    statuses = {str(finding.status) for finding in found}
    if "wrong" in statuses:
        return SOMETHING_WRONG
    return NOT_ALL_KNOWN if "unknown" in statuses else ALL_WELL


def print_report(console: Console, found: Sequence[Finding]) -> None:
    """A line for each thing; below it, what to type where something is to do. No line is broken: they are copied."""
    from rich.text import Text  # noqa: PLC0415  not needed for help

    widths = max(map(len, COLOURS)), max((len(finding.check) for finding in found), default=0)
    seam = None
    for finding in found:
        if finding.seam != seam:
            seam = finding.seam
            console.print(Text(f"{seam}", style="bold"))
        line = Text(f"  {finding.status:{widths[0]}}  ", style=COLOURS[finding.status])
        line.append(f"{finding.check:{widths[1]}}  {finding.message}", style="default")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(Text(f"  {'':{widths[0]}}  → {finding.advice}", style="bold"), soft_wrap=True)
    counts = {status: sum(finding.status == status for finding in found) for status in COLOURS}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
