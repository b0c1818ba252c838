"""What the process's own metrics say, for tests that compare before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import REGISTRY


def sample(name: str, **labels: str) -> float:
    """One sample's value, 0 for one that was never counted."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@dataclass
class Growth:
    """``by`` is how much a sample grew inside :func:`growth`."""

    by: float = 0.0


@contextmanager
def growth(name: str, **labels: str) -> Iterator[Growth]:
    """How much a sample grows meanwhile: other tests of the session count in the same registry."""
    grown, before = Growth(), sample(name, **labels)
    yield grown
    grown.by = sample(name, **labels) - before
