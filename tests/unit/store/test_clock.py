"""The database's clock must not turn back: a lease would last an hour longer when summer time ends."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import mysql

from tavia.store.clock import now


def test_mariadbs_clock_does_not_depend_on_its_time_zone() -> None:
    statement = str(select(now()).compile(dialect=mysql.dialect()))
    assert "UTC_TIMESTAMP(6)" in statement
    assert "SYSDATE" not in statement
