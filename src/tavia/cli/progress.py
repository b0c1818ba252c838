"""What a person sees while a command works: one line a step, with a tick and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


@contextmanager
def step(console: Console, text: str) -> Iterator[None]:
    """Show that ``text`` is being done, then that it is, or that it failed."""
    started = time.monotonic()
    try:
        with console.status(escape(text)):
            yield
    except BaseException:
        console.print(f"[red]✗[/] {escape(text)}")
        raise
    console.print(f"[green]✓[/] {escape(text)} [dim]{time.monotonic() - started:.1f} s[/]")


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until ``condition`` holds, at most ``timeout`` seconds; whether it does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
