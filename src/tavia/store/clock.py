"""The database's clock: leases and due times are written and compared by it only, so hosts' clocks don't matter.

Beside it the host's, for times that people read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since the epoch with fractions, as the database sees them when the statement begins."""

    type = Double()
    inherit_cache = True
    name = "tavia_now"


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "mysql", "mariadb")
def _mysql(element: now, compiler: Any, **kw: Any) -> str:
    # Not UNIX_TIMESTAMP(NOW(6)): the session's local time comes twice when summer time ends, and leases with it.
    return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"


def utcnow() -> datetime:
    """The naive UTC time for ``created_at`` and ``updated_at``: shown to people, never compared."""
    return datetime.now(UTC).replace(tzinfo=None)
