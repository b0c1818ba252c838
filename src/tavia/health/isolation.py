"""Writing for many at once, so that the one whose facts the database refuses hurts only itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tavia.health.unforeseen import unforeseen
from tavia.store import liveness
from tavia.store.database import Database, OutcomeUnknown, StoreBusy, StoreUnreachable

T = TypeVar("T")


def isolated(database: Database, items: Sequence[T], work: Callable[[Sequence[T]], None], where: str) -> list[T]:
    """Have ``work`` done on all items; where that fails, on one half and the other. Returns those it fails for alone.

    Raises what ``work`` raises where the database takes no writes at all: then it is nobody's fault, and all wait.
    """
    if not items:
        return []
    try:
        work(items)
    except (StoreBusy, StoreUnreachable, OutcomeUnknown):
        raise
    except Exception as error:
        _ask(database, error)
        return _in_halves(items, work, where, error)
    return []


def _ask(database: Database, error: Exception) -> None:
    try:
        database.write(liveness.takes_writes)
    except Exception:
        raise error from None


def _in_halves(items: Sequence[T], work: Callable[[Sequence[T]], None], where: str, error: Exception) -> list[T]:
    if len(items) == 1:
        unforeseen(where, error, str(items[0]))
        return list(items)
    failed: list[T] = []
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        try:
            work(half)
        except (StoreBusy, StoreUnreachable, OutcomeUnknown):
            raise
        except Exception as again:
            failed += _in_halves(half, work, where, again)
    return failed
