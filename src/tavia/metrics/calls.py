"""Calls to agents and to the cloud, timed where every one passes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from prometheus_client import Histogram

from tavia.model.seams import SeamError

T = TypeVar("T")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

AGENT_CALLS = Histogram(
    "tavia_agent_call_seconds",
    "Calls of amphorae's agents: what was asked, and whether it was done, or failed with the seam that broke.",
    ["call", "outcome"],
    buckets=SECONDS,
)
CLOUD_CALLS = Histogram(
    "tavia_cloud_call_seconds",
    "Calls of compute, networking and images; refused: for a cause that waiting cannot cure, failed: any other.",
    ["face", "call", "outcome"],
    buckets=SECONDS,
)


@contextmanager
def agent_call(call: str) -> Iterator[None]:
    """Time one call; ``call`` from a closed set. Passes every exception on."""
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "done"
    except SeamError as error:
        outcome = f"failed-{error.seam}"
        raise
    finally:
        AGENT_CALLS.labels(call, outcome).observe(time.monotonic() - began)


def timed_cloud(face: str, cloud: T) -> T:
    """The same face of a cloud (compute, network, image), every call of it timed."""
    return cast(T, _Timed(face, cloud))


class _Timed:
    def __init__(self, face: str, target: object) -> None:
        self._face = face
        self._target = target

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What it times is what it is taken for."""
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        @wraps(attribute)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began, outcome = time.monotonic(), "failed"
            try:
                answer = attribute(*args, **kwargs)
                outcome = "done"
            except SeamError as error:
                outcome = "refused" if error.permanent else "failed"
                raise
            finally:
                CLOUD_CALLS.labels(self._face, name, outcome).observe(time.monotonic() - began)
            return answer

        self.__dict__[name] = timed  # found without us from the next call on
        return timed
