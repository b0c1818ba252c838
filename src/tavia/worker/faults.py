"""From a failure to the fault that an object shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tavia.model.seams import Fault, SeamError
from tavia.store.clock import utcnow


def fault_of(failure: SeamError, earlier: Mapping[str, Any] | None = None) -> Fault:
    """``earlier`` is the fault shown so far: the same one goes on, it does not begin again."""
    is_same = earlier is not None and earlier["code"] == failure.code
    since = earlier["since"] if earlier and is_same else utcnow().isoformat(timespec="seconds")
    return Fault(code=failure.code, seam=failure.seam, message=failure.message, since=since)
