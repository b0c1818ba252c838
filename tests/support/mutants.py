"""``make mutants``: change the code in one thing, see whether a test notices, and show what none noticed.

Which files, and the tests that are to notice: ``tests/mutants.toml``. Nothing is written into the work tree: a mutant
stands in the memory of a process of its own, forked from one that holds all libraries, where the tests run that ever
came through the function that was changed (all tests of the file, where it is no function), the quickest first. One
that they all pass counts as noticed where mypy refuses it. Programs that tests start do not see the mutant.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType
from typing import Any, cast
from warnings import catch_warnings

import coverage
import grimp
import hypothesis
import pytest
from hypothesis import given
from hypothesis.strategies import integers
from mutators import Mutant, mutants
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".tavia" / "mutants"
FORK = multiprocessing.get_context("fork")
MORE_WORK, SLOWER = 10, 5
"""Seconds of a processor more, and how many times as many, that tests may take with a mutant than without."""
FATES = ("killed", "endless", "mypy", "explained", "survived")
AS_IT_IS: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
PHASES = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
"""Of hypothesis: a counterexample need not be a short one."""
Key = tuple[str, str, str, str]
PYTEST = (
    "-x",
    "--tb=no",
    "-p",
    "no:cacheprovider",
    "-k",
    "not mariadb",
    "--timeout=600",
    "--hypothesis-profile=mutants",
)
"""One database is enough to tell whether a statement is right, and the other takes seconds to start."""


@dataclass(frozen=True)
class Target:
    """A file, and the tests that are to notice."""

    path: str
    tests: Sequence[str]

    @property
    def module(self) -> str:
        return self.path.removeprefix("src/").removesuffix(".py").replace("/", ".")


@dataclass
class Found:
    """What the tests of a file do without a mutant. ``took`` is seconds; what runs at import is no test's: ""."""

    untouched: list[str] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    tests_of_line: dict[int, list[str]] = field(default_factory=dict)

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Those that come through the function, the quickest first."""
        reaching = {test for line in mutant.lines for test in self.tests_of_line.get(line, ())}
        chosen = set(self.took) if not mutant.lines or "" in reaching else reaching
        return sorted(chosen, key=lambda test: self.took[test])


class Chosen:
    """A plugin of pytest: only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: n for n, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.place), key=lambda item: self.place[item.nodeid])


class Watching:
    """A plugin of pytest: which test comes through which line, and how long each takes."""

    def __init__(self, found: Found, lines: coverage.Coverage) -> None:
        self.found, self.lines = found, lines

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self.found.took[item.nodeid] = time.monotonic() - began
        self.lines.switch_context("")
        return result


class Mutated(SourceFileLoader):
    """Imports one module from a text."""

    def __init__(self, target: Target, source: str) -> None:
        super().__init__(target.module, str(ROOT / target.path))
        self.source = source

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")


def watch(target: Target, answer: Connection) -> None:
    """In a process of its own: run a file's tests without a mutant; they must pass."""
    found, lines = Found(), coverage.Coverage(data_file=None, config_file=False, include=[str(ROOT / target.path)])
    lines.start()
    code = pytest.main([*PYTEST, *target.tests], plugins=[Watching(found, lines)])
    lines.stop()
    if code == 0:
        found.tests_of_line = lines.get_data().contexts_by_lineno(str(ROOT / target.path))
        found.untouched = [name for name, module in sys.modules.items() if _is_untouched(target, name, module)]
        answer.send(found)
    sys.exit(code)


def _is_untouched(target: Target, name: str, module: Any) -> bool:
    """Libraries, and what of ours imports the mutated module in no way: need not be imported again for each mutant."""
    if name.partition(".")[0] == "tavia":
        return name not in {target.module, *upstream_of(target.module)}
    return "site-packages" in (getattr(module, "__file__", None) or "")


@cache
def upstream_of(module: str) -> Collection[str]:
    """The modules that import it, whichever way."""
    return grimp.build_graph("tavia").find_downstream_modules(module)


def tell(target: Target, mutant: Mutant, tests: Sequence[str]) -> None:
    """In a process of its own: exits with 0 where no test notices."""
    sys.meta_path.insert(0, Mutated(target, mutant.source))
    files = sorted({test.partition("::")[0] for test in tests})
    sys.exit(pytest.main([*PYTEST, *files], plugins=[Chosen(tests)]))


def run(work: Callable[..., None], *args: Any, busy: float = 3600.0) -> int:
    """The exit code of ``work`` in a process of its own; what it started is killed.

    ``busy`` is how many seconds of a processor it may take.
    """
    process = FORK.Process(target=_quietly, args=(round(busy), work, *args))
    process.start()
    process.join()
    with suppress(ProcessLookupError):
        os.killpg(cast(int, process.pid), signal.SIGKILL)
    return cast(int, process.exitcode)


def _quietly(busy: int, work: Callable[..., None], *args: Any) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (busy, busy + 1))
    log = os.open(WORK / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    work(*args)


def refused_by_mypy(target: Target, mutant: Mutant) -> bool:
    """Whether `make lint` would not let it pass."""
    mutated = WORK / "mutant.py"
    mutated.write_text(mutant.source)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        WORK / "mypy",
        "--shadow-file",
        target.path,
        mutated,
    ]
    return subprocess.run([*command, target.path], capture_output=True, check=False).returncode != 0


def fate(target: Target, mutant: Mutant, found: Found) -> str:
    """What became of it, a word of FATES."""
    tests = found.tests_for(mutant)
    code = run(tell, target, mutant, tests, busy=MORE_WORK + SLOWER * sum(found.took[test] for test in tests))
    if tests and code:
        return "endless" if code == -signal.SIGXCPU else "killed"
    return "mypy" if refused_by_mypy(target, mutant) else "survived"


def get_ready(modules: Sequence[str]) -> None:
    """What every mutant's process would do again."""
    for name in modules:
        with suppress(Exception):  # some can be imported in a certain order only, or are no modules
            importlib.import_module(name)
    with catch_warnings(action="ignore"):  # hypothesis thinks that pytest starts
        given(integers())(lambda _: None)()  # it looks for constants in all of our modules
    gc.collect()
    gc.freeze()


def key(target: Target, mutant: Mutant) -> Key:
    """By what an explained survivor is known again."""
    return target.path, mutant.function, mutant.was, mutant.becomes


def mutate(
    target: Target, function: str, explained: Collection[Key], console: Console
) -> tuple[Counter[str], set[Key]]:
    """The number of mutants for each fate, and the survivors; those that nobody explained are shown at once."""
    receiving, sending = FORK.Pipe(duplex=False)
    console.print(f"==> {target.path}: its tests without a mutant", highlight=False)
    if run(watch, target, sending):
        raise SystemExit(f"{' '.join(target.tests)} must pass first, see {WORK / 'pytest.log'}")
    found: Found = receiving.recv()
    get_ready(found.untouched)
    source = (ROOT / target.path).read_text()
    every = [each for each in mutants(source, prose="/render/" in target.path) if function in each.function]
    fates: Counter[str] = Counter()
    survivors = set()
    console.print(f"==> {target.path}: {len(every)} mutants, a dot for each that is noticed", highlight=False)
    for mutant in every:
        became = fate(target, mutant, found)
        if became == "survived":
            survivors.add(key(target, mutant))
            became = "explained" if key(target, mutant) in explained else became
        console.print("." if became != "survived" else f"\n{shown(target, mutant)}\n", end="", **AS_IT_IS)
        fates[became] += 1
    console.print()
    return fates, survivors


def shown(target: Target, mutant: Mutant) -> str:
    """Where it is and its difference, for people."""
    lines = [("-", line) for line in mutant.was.splitlines()] + [("+", line) for line in mutant.becomes.splitlines()]
    where = f"{target.path}, {mutant.function or 'outside functions'}"
    return "\n".join([where, *(f"    {sign} {line}" for sign, line in lines)])


def main(argv: Sequence[str] | None = None) -> None:
    """See the module. Exits with 1 when one survived that nobody explained."""
    parser = argparse.ArgumentParser(prog="make mutants ARGS=...", description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="*", help="part of a path in tests/mutants.toml; all of them without")
    parser.add_argument("--function", default="", help="part of the name of the functions to change")
    options = parser.parse_args(argv)
    chosen = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())
    explained = {(e["file"], e["function"], e["was"], e["becomes"]) for e in chosen.get("explained", [])}
    targets = [Target(path, tests) for path, tests in chosen["suites"].items()]
    targets = [t for t in targets if not options.file or any(part in t.path for part in options.file)]
    console, table = Console(width=None if sys.stdout.isatty() else 120), Table("file", "mutants", *FATES)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=PHASES)
    hypothesis.settings.load_profile("mutants")
    WORK.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    survived: set[Key] = set()
    with tempfile.TemporaryDirectory(prefix="tavia-mutants-") as directory:
        tempfile.tempdir = os.environ["TMPDIR"] = directory
        for target in targets:
            fates, survivors = mutate(target, options.function, explained, console)
            survived |= survivors
            table.add_row(target.path, *map(str, [fates.total(), *(fates[each] for each in FATES)]))
    console.print(table)
    paths = {target.path for target in targets}
    if gone := {each for each in explained - survived if each[0] in paths and options.function in each[1]}:
        console.print(f"tests/mutants.toml explains what does not survive any more: {sorted(gone)}")
    raise SystemExit(bool(survived - explained or gone))


if __name__ == "__main__":
    main()
