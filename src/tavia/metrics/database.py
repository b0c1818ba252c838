"""The database, counted where every transaction passes: :class:`tavia.store.database.Database`."""

from __future__ import annotations

from prometheus_client import Counter

TRANSACTIONS = Counter(
    "tavia_database_transactions",
    "Writing transactions; rolled-back: what they did refused itself, exhausted: others were in the way until the "
    "attempts were used up.",
    ["outcome"],
)
COMMITTED, ROLLED_BACK, EXHAUSTED = (TRANSACTIONS.labels(each) for each in ("committed", "rolled-back", "exhausted"))
CONFLICTS = Counter(
    "tavia_database_conflicts", "Writing transactions that another one was in the way of, each repeated as a whole."
)
CONNECTION_ERRORS = Counter("tavia_database_connection_errors", "Connections that were refused or broke.")
